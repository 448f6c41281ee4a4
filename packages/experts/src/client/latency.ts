/** How long one shard takes to answer, by size of the frame; and what hedging may cost. */
import { sizeClass } from '../size-class.ts';

const KEPT = 128;
/** Fewer answers say nothing about the slowest of twenty. */
const LEAST = 20;
const SMOOTHING = 0.2;

/** Times of answers, in milliseconds, apart for each class of sizes. */
export class LatencyTrack {
  readonly #classes = new Map<number, { times: number[]; next: number }>();
  #mean = 0;

  add(pairs: number, ms: number): void {
    this.#mean = this.#mean === 0 ? ms : this.#mean + SMOOTHING * (ms - this.#mean);
    const size = sizeClass(pairs);
    const known = this.#classes.get(size) ?? { times: [], next: 0 };
    this.#classes.set(size, known);
    known.times[known.next] = ms;
    known.next = (known.next + 1) % KEPT;
  }

  /** Smoothed time of the last answers; 0 before the first. */
  get mean(): number {
    return this.#mean;
  }

  /** Time that 95 % of the last frames of about this size did not pass; undefined until there are enough. */
  p95(pairs: number): number | undefined {
    const times = this.#classes.get(sizeClass(pairs))?.times;
    if (times === undefined || times.length < LEAST) return undefined;
    return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.95)];
  }
}

/** Lets at most a share of all frames be sent twice, with some to spare after quiet times. */
export class HedgeBudget {
  readonly #share: number;
  readonly #most: number;
  #left: number;

  constructor(share = 0.05, most = 10) {
    this.#share = share;
    this.#most = most;
    this.#left = most;
  }

  /** A frame was sent once. */
  earn(): void {
    this.#left = Math.min(this.#most, this.#left + this.#share);
  }

  /** Whether one may be sent again. */
  spend(): boolean {
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
