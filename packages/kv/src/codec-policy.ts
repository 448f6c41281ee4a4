/**
 * Which codec a link should use: the one by which a transfer commits earliest. Encoding, the link and decoding are a pipeline that the
 * parts of a transfer go through: it takes as long as its slowest stage for every part, and the other two stages once. So far as the
 * machine has no processor to spare the stages take turns instead. Everything is measured: how far this KV shrinks and how fast, how
 * long encoding waits for a processor, what the link carries, how fast the receiver decodes.
 */
import { KV_CODECS, type KvCodec } from './codec.ts';
import type { CodecMeasures, EncodedFigures } from './codec-measures.ts';
import { RecentMedian } from './recent-median.ts';

/** What is known of a link. */
export interface LinkBandwidth {
  /** Bytes per ms; undefined before anything was measured. */
  readonly bandwidth: number | undefined;
}

export interface CodecPolicyOptions {
  /** What both ends take; `none` is always among them. */
  accepted: readonly KvCodec[];
  link: LinkBandwidth;
  measures: CodecMeasures;
  /** Threads that encode; default 1. */
  threads?: number;
  /** A fixed choice instead of measurement. */
  fixed?: KvCodec;
  /** One part in this many tries another codec, so that its figures stay fresh; default 48. */
  exploreEvery?: number;
}

export interface CodecDecision {
  codec: KvCodec;
  reason: string;
}

export interface CodecFigures {
  codec: KvCodec;
  ratio: number;
  encodeRate: number;
  /** undefined before a transfer with it has committed. */
  decodeRate: number | undefined;
}

/** Parts that a codec is tried on before its figures are trusted, and how often it is tried until then: one part in so many. */
const FIRST_SAMPLES = 3;
const FIRST_EVERY = 4;
const MIB = 1_048_576;

/** Measurements of the receiver and choice of one link (one pair of workers, one direction) for KV in one wire form. */
export class CodecPolicy {
  readonly #accepted: readonly KvCodec[];
  readonly #fixed: CodecDecision | undefined;
  readonly #exploreEvery: number;
  readonly #link: LinkBandwidth;
  readonly #measures: CodecMeasures;
  readonly #threads: number;
  readonly #decodeRates = new Map<KvCodec, RecentMedian>();
  #parts = 0;
  #explored = 0;

  constructor(options: CodecPolicyOptions) {
    const { accepted, link, measures, threads = 1, fixed, exploreEvery = 48 } = options;
    this.#accepted = KV_CODECS.filter((codec) => codec === 'none' || accepted.includes(codec));
    this.#link = link;
    this.#measures = measures;
    this.#threads = threads;
    this.#exploreEvery = exploreEvery;
    if (fixed !== undefined) {
      this.#fixed = this.#accepted.includes(fixed)
        ? { codec: fixed, reason: 'fixed by configuration' }
        : { codec: 'none', reason: `the receiver does not take ${fixed}` };
    }
  }

  /** The choice for a transfer of so many parts, and why. */
  decision(parts: number): CodecDecision {
    if (this.#fixed !== undefined) return this.#fixed;
    const { bandwidth } = this.#link;
    if (bandwidth === undefined) return { codec: 'none', reason: 'nothing was measured on this link yet' };
    const costs = this.#costs(parts);
    const listed = costs.map(({ codec, ms }) => `${codec} ${ms.toFixed(2)}`).join(', ');
    const text = parts === 1 ? 'one part' : `each of ${parts} parts`;
    return {
      codec: cheapest(costs),
      reason: `ms per raw MiB in ${text}: ${listed}; the link carries ${(bandwidth / 1000).toFixed(1)} MB/s`,
    };
  }

  /** The codec of the next part of a transfer of so many: the choice, or now and then another one. */
  next(parts: number): KvCodec {
    if (this.#fixed !== undefined) return this.#fixed.codec;
    const turn = this.#parts++;
    const unknown = this.#accepted.find((codec) => this.#samples(codec) === 0);
    if (unknown !== undefined) return unknown;
    const codec = cheapest(this.#costs(parts));
    const others = this.#accepted.filter((other) => other !== codec);
    const young = others.filter((other) => this.#samples(other) < FIRST_SAMPLES);
    if (young.length > 0 && turn % FIRST_EVERY === 0) return young[0] as KvCodec;
    if (turn % this.#exploreEvery !== this.#exploreEvery - 1) return codec;
    return others[this.#explored++ % Math.max(1, others.length)] ?? codec;
  }

  /** Records one encoded part. `codec` is the one that was asked for, even if the part went out raw. */
  encoded(codec: KvCodec, part: EncodedFigures): void {
    this.#measures.encoded(codec, part);
  }

  /** Records what decoding cost at the receiver. */
  decoded(codec: KvCodec, rawBytes: number, decodeMs: number): void {
    if (rawBytes <= 0 || !(decodeMs > 0)) return;
    const rates = this.#decodeRates.get(codec) ?? new RecentMedian();
    this.#decodeRates.set(codec, rates);
    rates.add(rawBytes / decodeMs);
  }

  /** Milliseconds that a raw MiB takes in a transfer of so many parts; undefined while the codec or the link is not known. */
  cost(codec: KvCodec, parts: number): number | undefined {
    const measure = this.#measures.of(codec);
    const { bandwidth } = this.#link;
    if (measure === undefined || bandwidth === undefined) return undefined;
    // `none` is no work for a thread
    const encode = 1 / (measure.encodeRate * (codec === 'none' ? 1 : this.#threads));
    const carry = 1 / (measure.ratio * bandwidth);
    // not known before the first transfer has committed
    const decode = 1 / (this.#decodeRates.get(codec)?.value ?? Number.POSITIVE_INFINITY);
    const slowest = Math.max(encode, carry, decode);
    const others = encode + carry + decode - slowest;
    const { waiting } = this.#measures;
    return MIB * (slowest + others * (waiting + (1 - waiting) / Math.max(1, parts)));
  }

  /** What is known of each codec that was tried on this KV. Rates in raw bytes per ms of one thread. */
  get figures(): CodecFigures[] {
    return this.#accepted.flatMap((codec) => {
      const measure = this.#measures.of(codec);
      if (measure === undefined) return [];
      const { ratio, encodeRate } = measure;
      return [{ codec, ratio, encodeRate, decodeRate: this.#decodeRates.get(codec)?.value }];
    });
  }

  /** Of the codecs that can be judged; none while nothing was measured on the link. */
  #costs(parts: number): Cost[] {
    return this.#accepted.flatMap((codec) => {
      const ms = this.cost(codec, parts);
      return ms === undefined ? [] : [{ codec, ms }];
    });
  }

  #samples(codec: KvCodec): number {
    return this.#measures.of(codec)?.samples ?? 0;
  }
}

interface Cost {
  codec: KvCodec;
  ms: number;
}

function cheapest([first, ...others]: readonly Cost[]): KvCodec {
  return others.reduce((least, other) => (other.ms < least.ms ? other : least), first ?? { codec: 'none', ms: 0 }).codec;
}
