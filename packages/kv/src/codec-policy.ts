/**
 * Which codec a link should use: the one with the least encode + transfer + decode time per raw byte,
 * t(c) = 1/encodeRate + 1/(ratio * bandwidth) + 1/decodeRate, from what was measured on this very link.
 * (A fixed codec can make a fast link slower: measure, then choose.)
 */
import { KV_CODECS, type KvCodec } from './codec.ts';

export interface CodecPolicyOptions {
  /** What both ends take; `none` is always among them. */
  accepted: readonly KvCodec[];
  /** A fixed choice instead of measurement. */
  fixed?: KvCodec;
  /** One part in this many tries another codec; default 48. */
  exploreEvery?: number;
}

/** What is known of a codec on a link. Rates in raw bytes per ms. */
export interface CodecMeasure {
  ratio: number;
  encodeRate: number;
  decodeRate: number;
  samples: number;
}

export interface CodecDecision {
  codec: KvCodec;
  reason: string;
}

/** Before anything was measured: orders of magnitude of one thread on bf16 KV. */
const PRIORS: Readonly<Record<KvCodec, CodecMeasure>> = {
  none: { ratio: 1, encodeRate: 3_000_000, decodeRate: 3_000_000, samples: 0 },
  zstd: { ratio: 1.2, encodeRate: 300_000, decodeRate: 800_000, samples: 0 },
  'planes+zstd': { ratio: 1.35, encodeRate: 350_000, decodeRate: 500_000, samples: 0 },
};
/** 400 MB/s: what one NATS connection carries between two processes of a machine. */
const PRIOR_BANDWIDTH = 400_000;
const SMOOTHING = 0.25;
/** Another codec must be this much cheaper to replace the current one. */
const HYSTERESIS = 0.95;

/** Measurements and choice of one link (one pair of workers, one direction). */
export class CodecPolicy {
  readonly #accepted: readonly KvCodec[];
  readonly #fixed: KvCodec | undefined;
  readonly #exploreEvery: number;
  readonly #measures = new Map<KvCodec, CodecMeasure>();
  #bandwidth = PRIOR_BANDWIDTH;
  #bandwidthSamples = 0;
  #current: CodecDecision;
  #parts = 0;
  #explored = 0;

  constructor(options: CodecPolicyOptions) {
    this.#accepted = KV_CODECS.filter((codec) => codec === 'none' || options.accepted.includes(codec));
    this.#fixed = options.fixed !== undefined && this.#accepted.includes(options.fixed) ? options.fixed : undefined;
    this.#exploreEvery = options.exploreEvery ?? 48;
    this.#current = this.#fixed !== undefined ? { codec: this.#fixed, reason: 'fixed by configuration' } : this.#cheapest('none');
    if (options.fixed !== undefined && this.#fixed === undefined) {
      this.#current = { codec: 'none', reason: `the receiver does not take ${options.fixed}` };
      this.#fixed = 'none';
    }
  }

  /** The choice in force and why. */
  get decision(): CodecDecision {
    return this.#current;
  }

  /** Bytes per ms that the link was seen to carry. */
  get bandwidth(): number {
    return this.#bandwidth;
  }

  /** The codec of the next part: the choice, or now and then another one, so that its figures stay fresh. */
  next(): KvCodec {
    if (this.#fixed !== undefined) return this.#fixed;
    this.#parts++;
    if (this.#parts % this.#exploreEvery !== 0) return this.#current.codec;
    const others = this.#accepted.filter((codec) => codec !== this.#current.codec);
    return others[this.#explored++ % Math.max(1, others.length)] ?? this.#current.codec;
  }

  /** Records one encoded part. `codec` is the one that was asked for, even if the part went out raw. */
  encoded(codec: KvCodec, rawBytes: number, encodedBytes: number, encodeMs: number): void {
    const measure = this.#measure(codec);
    measure.ratio = smooth(measure.ratio, rawBytes / Math.max(1, encodedBytes), measure.samples);
    measure.encodeRate = smooth(measure.encodeRate, rawBytes / Math.max(1e-3, encodeMs), measure.samples);
    measure.samples++;
    this.#decide();
  }

  /** Records what decoding cost at the receiver. */
  decoded(codec: KvCodec, rawBytes: number, decodeMs: number): void {
    if (rawBytes <= 0 || !(decodeMs > 0)) return;
    const measure = this.#measure(codec);
    measure.decodeRate = smooth(measure.decodeRate, rawBytes / decodeMs, measure.samples);
    this.#decide();
  }

  /** Records that `bytes` bytes were carried in `ms` while the link was the busy part. */
  carried(bytes: number, ms: number): void {
    if (bytes <= 0 || !(ms > 0)) return;
    this.#bandwidth = smooth(this.#bandwidth, bytes / ms, this.#bandwidthSamples++);
    this.#decide();
  }

  /** Milliseconds per raw MiB that a codec is thought to cost on this link. */
  cost(codec: KvCodec): number {
    const measure = this.#measures.get(codec) ?? PRIORS[codec];
    return 1_048_576 * (1 / measure.encodeRate + 1 / (measure.ratio * this.#bandwidth) + 1 / measure.decodeRate);
  }

  #decide(): void {
    if (this.#fixed === undefined) this.#current = this.#cheapest(this.#current.codec);
  }

  #cheapest(current: KvCodec): CodecDecision {
    let best = current;
    for (const codec of this.#accepted) {
      const threshold = best === current ? HYSTERESIS * this.cost(best) : this.cost(best);
      if (this.cost(codec) < threshold) best = codec;
    }
    const costs = this.#accepted.map((codec) => `${codec} ${this.cost(codec).toFixed(2)}`).join(', ');
    const source = this.#bandwidthSamples > 0 ? 'measured' : 'assumed';
    const megabytes = (this.#bandwidth / 1000).toFixed(0);
    return { codec: best, reason: `ms per raw MiB: ${costs}; ${source} ${megabytes} MB/s` };
  }

  #measure(codec: KvCodec): CodecMeasure {
    let measure = this.#measures.get(codec);
    if (measure === undefined) {
      measure = { ...PRIORS[codec] };
      this.#measures.set(codec, measure);
    }
    return measure;
  }
}

function smooth(old: number, seen: number, samples: number): number {
  return samples === 0 ? seen : old + SMOOTHING * (seen - old);
}
