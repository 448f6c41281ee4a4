/** How long one shard takes to answer, by size of the frame; and what asking others too may cost. */
import { sizeClass } from '../size-class.ts';

const KEPT = 128;
/** Fewer answers say nothing about the slowest of twenty. */
const LEAST = 20;
/** The slowest of twenty is looked up again after so many answers. */
const LOOKED_UP_EVERY = 8;
const SMOOTHING = 0.2;
/** One answer that was held up says little of the next. */
const MOST_OF_MEAN = 4;
/** What was measured so long ago counts half: a shard that was slow is tried again. */
const HALF_LIFE_MS = 1000;

interface SizeTimes {
  /** The last ones, in no order. */
  times: number[];
  added: number;
  p95: number | undefined;
}

/** Times of answers, in milliseconds, apart for each class of sizes. */
export class LatencyTrack {
  readonly #classes = new Map<number, SizeTimes>();
  readonly #now: () => number;
  #mean = 0;
  #heardAt = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  add(pairs: number, ms: number): void {
    const heard = this.#mean === 0 ? ms : Math.min(ms, MOST_OF_MEAN * this.#mean);
    this.#mean = this.#mean === 0 ? ms : this.#mean + SMOOTHING * (heard - this.#mean);
    this.#heardAt = this.#now();
    const size = sizeClass(pairs);
    const known = this.#classes.get(size) ?? { times: [], added: 0, p95: undefined };
    this.#classes.set(size, known);
    const { times } = known;
    times[known.added % KEPT] = ms;
    known.added++;
    if (known.added < LEAST || (known.added - LEAST) % LOOKED_UP_EVERY !== 0) return;
    known.p95 = times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.95)];
  }

  /** Smoothed time of the last answers, less the longer nothing was heard; 0 before the first. */
  get mean(): number {
    return this.#mean * 2 ** (-(this.#now() - this.#heardAt) / HALF_LIFE_MS);
  }

  /** Time that 95 % of the last frames of about this size did not pass; undefined until there are enough. */
  p95(pairs: number): number | undefined {
    return this.#classes.get(sizeClass(pairs))?.p95;
  }
}

/**
 * Lets at most a share of all frames be sent twice, with some to spare after quiet times. Since one frame in twenty passes the 95th
 * percentile whatever its shard does, a part is kept for those that are later than that.
 */
export class HedgeBudget {
  readonly #share: number;
  readonly #most: number;
  readonly #kept: number;
  #left: number;

  constructor(share = 0.05, most = 20, kept = 10) {
    this.#share = share;
    this.#most = most;
    this.#kept = kept;
    this.#left = most;
  }

  /** A frame was sent once. */
  earn(): void {
    this.#left = Math.min(this.#most, this.#left + this.#share);
  }

  /** Whether one that is a little late may be sent again, or one that is much later. */
  spend(late: 'late' | 'very late'): boolean {
    if (this.#left < 1 + (late === 'late' ? this.#kept : 0)) return false;
    this.#left--;
    return true;
  }
}
