/**
 * What the way to a receiver carries, as its sender works it out from when frames were published and when they arrived. A frame is under
 * way alone from its publication on, or, when it was published before the one in front of it had arrived, from that arrival on: only this
 * time counts, so that a sender that is slow for other reasons doesn't make the link look slow. Traffic of others on the same way does
 * count: what is measured is what this link is left.
 *
 * The two clocks have nothing in common. What matters is how much longer a frame took than the fastest message: an Open, which is
 * hardly a byte long, or whichever frame was faster.
 */

import { RecentMedian } from '@causeway/kv';

/** The fastest message of the last one to two such times counts: clocks drift, and ways change. */
const EPOCH_MS = 10_000;
/** How much of the sums is kept when a frame is added. */
const KEEP = 0.85;

export interface ArrivedFrame {
  bytes: number;
  /** By the sender's clock, ms. */
  publishedAt: number;
  /** By the receiver's clock, ms. */
  arrivedAt: number;
  /** Since the frame in front of it, ms; undefined: it was the first. */
  gapMs: number | undefined;
}

export class LinkRate {
  readonly #now: () => number;
  readonly #roundTrips = new RecentMedian();
  #bytes = 0;
  #ms = 0;
  #fastest = Number.POSITIVE_INFINITY;
  #fastestBefore = Number.POSITIVE_INFINITY;
  #epochStart = Number.NEGATIVE_INFINITY;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Bytes per ms; undefined before a frame was measured. */
  get bandwidth(): number | undefined {
    return this.#ms > 0 ? this.#bytes / this.#ms : undefined;
  }

  /** From an Open to its answer, ms: through the server there and back. undefined before the first. */
  get roundTripMs(): number | undefined {
    return this.#roundTrips.count === 0 ? undefined : this.#roundTrips.value;
  }

  /** Notes that an Open was answered after so many ms. */
  answered(ms: number): void {
    this.#roundTrips.add(ms);
  }

  /** Notes a message that is hardly a byte long. */
  small(publishedAt: number, arrivedAt: number): void {
    this.#took(arrivedAt - publishedAt);
  }

  /** Notes a frame. */
  frame({ bytes, publishedAt, arrivedAt, gapMs }: ArrivedFrame): void {
    const took = arrivedAt - publishedAt;
    const alone = took - this.#took(took);
    const ms = Math.min(alone, gapMs ?? alone);
    // as fast as the fastest, or not in order: nothing can be said of it
    if (!(ms > 0)) return;
    this.#bytes = KEEP * this.#bytes + bytes;
    this.#ms = KEEP * this.#ms + ms;
  }

  /** Notes how long a message took, by two clocks; gives that of the fastest. */
  #took(ms: number): number {
    const now = this.#now();
    if (now - this.#epochStart > EPOCH_MS) {
      this.#fastestBefore = now - this.#epochStart > 2 * EPOCH_MS ? Number.POSITIVE_INFINITY : this.#fastest;
      this.#fastest = Number.POSITIVE_INFINITY;
      this.#epochStart = now;
    }
    this.#fastest = Math.min(this.#fastest, ms);
    return Math.min(this.#fastest, this.#fastestBefore);
  }
}
