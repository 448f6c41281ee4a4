/** When frames of a transfer arrived, until the next credit tells the sender. */
import type { kvV1 } from '@causeway/proto';

/** Told at once at most; older ones are forgotten. */
const MOST = 64;

export class ArrivalLog {
  #arrivals: kvV1.Arrival[] = [];

  /** Notes a part's frame. `gapMs`: since the frame before it of any transfer of the sender; undefined for its first. */
  add(part: number, atMs: number, gapMs: number | undefined): void {
    this.#arrivals.push({ part, atUs: micros(atMs), ...(gapMs === undefined ? {} : { gapUs: micros(gapMs) }) });
    if (this.#arrivals.length > MOST) this.#arrivals.shift();
  }

  /** What is to be told; it is told once. */
  take(): kvV1.Arrival[] {
    const told = this.#arrivals;
    this.#arrivals = [];
    return told;
  }
}

/** Milliseconds as whole microseconds. */
export function micros(ms: number): bigint {
  return BigInt(Math.round(ms * 1000));
}
