/** What codecs were seen to do with the KV of one wire form on this worker: how far it shrinks, and how fast. Medians of recent parts. */
import type { KvCodec } from './codec.ts';
import type { EncodedPart } from './codec-messages.ts';
import { RecentMedian } from './recent-median.ts';

export interface CodecMeasure {
  /** Raw bytes over encoded bytes. */
  ratio: number;
  /** Raw bytes that one thread encodes in a ms. */
  encodeRate: number;
  /** Parts that it was tried on. */
  samples: number;
}

/** Figures of one encoded part. */
export type EncodedFigures = Pick<EncodedPart, 'rawBytes' | 'encodedBytes' | 'encodeMs' | 'encodeCpuMs'>;

/** How much of the sums of times is kept when a part is added. */
const KEEP = 0.85;

export class CodecMeasures {
  #ms = 0;
  #cpuMs = 0;
  readonly #seen = new Map<KvCodec, { ratio: RecentMedian; encodeRate: RecentMedian }>();

  /** Notes a part encoded with `codec`, even if it went out raw. */
  encoded(codec: KvCodec, { rawBytes, encodedBytes, encodeMs, encodeCpuMs }: EncodedFigures): void {
    if (codec !== 'none') {
      // copies are too short to be interrupted
      this.#ms = KEEP * this.#ms + encodeMs;
      this.#cpuMs = KEEP * this.#cpuMs + encodeCpuMs;
    }
    const seen = this.#seen.get(codec) ?? { ratio: new RecentMedian(), encodeRate: new RecentMedian() };
    this.#seen.set(codec, seen);
    seen.ratio.add(rawBytes / Math.max(1, encodedBytes));
    seen.encodeRate.add(rawBytes / Math.max(1e-3, encodeMs));
  }

  /** Share of its time in which encoding waits for a processor, 0 to 1: so far is this machine from having one to spare. */
  get waiting(): number {
    return this.#ms > 0 ? Math.min(1, Math.max(0, 1 - this.#cpuMs / this.#ms)) : 0;
  }

  /** undefined while nothing was encoded with it. */
  of(codec: KvCodec): CodecMeasure | undefined {
    const seen = this.#seen.get(codec);
    if (seen === undefined) return undefined;
    return { ratio: seen.ratio.value, encodeRate: seen.encodeRate.value, samples: seen.ratio.count };
  }
}
