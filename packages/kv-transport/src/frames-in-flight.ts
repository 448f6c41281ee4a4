/** Frames that were published, in their slots, until the receiver has them. */
import type { OutboundFrame } from './part-encoder.ts';

/** Unacknowledged frames older than this give their slots to those who wait, ms. */
const RECLAIM_MS = 1_000;

export class FramesInFlight {
  readonly #frames = new Map<number, OutboundFrame>();

  get(index: number): OutboundFrame | undefined {
    return this.#frames.get(index);
  }

  set(index: number, frame: OutboundFrame): void {
    this.#frames.set(index, frame);
  }

  release(index: number): void {
    this.#frames.get(index)?.slot.release();
    this.#frames.delete(index);
  }

  releaseAll(): void {
    for (const frame of this.#frames.values()) frame.slot.release();
    this.#frames.clear();
  }

  /**
   * Frees the slots of frames published more than a second before `now`, once `flush` has shown that the server has them:
   * a receiver that is slow to acknowledge must not starve the others. If such a part is asked for again it is encoded again.
   */
  async reclaim(
    now: number,
    sentAt: (index: number) => number,
    waiting: (index: number) => boolean,
    flush: () => Promise<boolean>,
  ): Promise<void> {
    const idle = (index: number) => sentAt(index) !== 0 && now - sentAt(index) > RECLAIM_MS && !waiting(index);
    const old = [...this.#frames].filter(([index]) => idle(index));
    if (old.length === 0 || !(await flush())) return;
    for (const [index, frame] of old) if (this.#frames.get(index) === frame && idle(index)) this.release(index);
  }
}
