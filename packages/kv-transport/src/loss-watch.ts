/**
 * When a receiver should ask for what is missing. NATS loses messages with connections, not in between: once the sender's flush
 * shows that the server had the frames, and the receiver's own flush that everything the server had has come in, what is absent
 * is lost. Asked at growing intervals while nothing arrives.
 */

/** Quiet time before published but absent parts are suspected, ms. */
const QUIET_MS = 200;
const MIN_ASK_MS = 250;
const MAX_ASK_MS = 2_000;

export class LossWatch {
  readonly #flush: () => Promise<void>;
  #lastFrame = Number.NEGATIVE_INFINITY;
  #nextAsk = 0;
  #delay = MIN_ASK_MS;
  #bytesAtAsk = -1;

  /** `flush` resolves when everything that the server had for this connection has arrived. */
  constructor(flush: () => Promise<void>) {
    this.#flush = flush;
  }

  /** Notes a frame's arrival. */
  arrived(now: number): void {
    this.#lastFrame = now;
  }

  /**
   * Whether parts are lost for certain. `owed()` says whether published parts are absent and none is being decoded;
   * `receivedBytes` is what is in place now.
   */
  async lost(now: number, receivedBytes: number, owed: () => boolean): Promise<boolean> {
    const suspicious = () => owed() && performance.now() - this.#lastFrame >= QUIET_MS;
    if (now < this.#nextAsk || !suspicious()) return false;
    this.#delay = receivedBytes === this.#bytesAtAsk ? Math.min(2 * this.#delay, MAX_ASK_MS) : MIN_ASK_MS;
    this.#bytesAtAsk = receivedBytes;
    this.#nextAsk = now + this.#delay;
    await this.#flush().catch(() => undefined);
    return suspicious();
  }
}
