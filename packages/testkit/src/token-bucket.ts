/** A token bucket: what a link of fixed rate lets through. */

/** Milliseconds of the rate that may leave at once: timers are no finer, and an idle link saves up no more. */
const BURST_MS = 4;

export class TokenBucket {
  readonly #rate: number;
  readonly #burst: number;
  #tokens: number;
  #filledAt: number;

  /** `rate` in bytes per ms. */
  constructor(rate: number, now: number) {
    this.#rate = rate;
    this.#burst = rate * BURST_MS;
    this.#tokens = this.#burst;
    this.#filledAt = now;
  }

  /** Milliseconds until something may leave; 0: now. */
  waitMs(now: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#filledAt) * this.#rate);
    this.#filledAt = now;
    return this.#tokens > 0 ? 0 : -this.#tokens / this.#rate;
  }

  /** Notes that `bytes` left. More than what was there delays what follows. */
  take(bytes: number): void {
    this.#tokens -= bytes;
  }
}
