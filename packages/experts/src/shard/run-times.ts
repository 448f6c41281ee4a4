/**
 * How long runs of some size take here, so that short ones needn't be handed over to another thread: to wake it, and to be woken by it,
 * takes as long as they do, and longer where other processes want the cores. A shard's event loop has nothing else to do meanwhile than
 * to take in frames, which wait for the run in any case.
 */
import { sizeClass } from '../size-class.ts';

/** A run that is expected to take longer goes to another thread. */
const SHORT_MS = 1;
const SMOOTHING = 0.2;

export class RunTimes {
  /** Smoothed milliseconds, by class of sizes. */
  readonly #means = new Map<number, number>();

  add(pairs: number, ms: number): void {
    const size = sizeClass(pairs);
    const known = this.#means.get(size);
    // One run that was held up says little of the next.
    const heard = known === undefined ? ms : Math.min(ms, 4 * known);
    this.#means.set(size, known === undefined ? heard : known + SMOOTHING * (heard - known));
  }

  /** Whether a run of so many pairs is known to be short. */
  short(pairs: number): boolean {
    return (this.#means.get(sizeClass(pairs)) ?? Number.POSITIVE_INFINITY) < SHORT_MS;
  }
}
