/**
 * A transfer as its sender runs it: a few lanes take the next part, encode it into a frame slot, publish it and keep the slot
 * until the receiver has the part.
 *
 * Invariants
 *  S1  A part leaves only when its tokens are offered, credit covers its end, the bulk connection is up and the receiver was
 *      heard since it came up.
 *  S2  A frame's slot isn't reused before the part is acknowledged or the transfer has ended (or, when others wait for slots,
 *      the server has confirmed that it has the frame). The pages are held until the transfer has ended.
 *  S3  A part that the receiver has is not sent again.
 *  S4  The manifest is sent once every part was published, and again until it is answered.
 */
import { setImmediate as yieldToLoop } from 'node:timers/promises';
import { ServiceError } from '@causeway/errors';
import { failpoint } from '@causeway/failpoints';
import type { LayerRange } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import { CodecTally, partsDigest } from './codec-tally.ts';
import type { ReceiverMessage, SenderMessage } from './control.ts';
import { OfferedObjects } from './offered-objects.ts';
import type { OutboundOptions } from './outbound-options.ts';
import { FramesInFlight } from './frames-in-flight.ts';
import { readBitmap } from './part-bitmap.ts';
import { frameBytes, type OutboundFrame, PartEncoder } from './part-encoder.ts';
import type { PartLocation } from './part-table.ts';
import { learnFromCredit, learnFromReceiver } from './learned-link.ts';
import { refusalError } from './refusal.ts';
import { manifestMessage, openMessage, progressMessage } from './sender-messages.ts';
import { silence } from './silence.ts';
import type { FirstTokenOptions, OutboundTransfer, TransferStats } from './types.ts';
import { Wakeup } from './wakeup.ts';
import { count } from './wire-types.ts';

/** Parts encoded at the same time: one in a codec thread while another is published. */
const LANES = 2;
/** A part asked for again is not repeated sooner than this, ms. */
const RESEND_MS = 150;

export class Outbound implements OutboundTransfer {
  readonly #options: OutboundOptions;
  readonly #crcs: Uint32Array;
  readonly #acknowledged: Uint8Array;
  /** When each part was last published; 0 for never. */
  readonly #sentAt: Float64Array;
  readonly #frames = new FramesInFlight();
  readonly #resend = new Set<number>();
  readonly #openedAt = performance.now();
  readonly #encoder: PartEncoder;
  readonly #tally = new CodecTally();
  readonly #offered: OfferedObjects;
  readonly #lanes: Promise<void>[] = [];
  readonly #hold: Disposable;
  readonly #done = Promise.withResolvers<TransferStats>();
  readonly #aborter = new AbortController();
  readonly #failure = new AbortController();
  readonly #lanesWake = new Wakeup();
  #barrier: Promise<void> = Promise.resolve();
  #opened = false;
  #cursor = 0;
  #publishedParts = 0;
  #provenBytes = 0;
  #upTo = 0;
  #finishing: FirstTokenOptions | undefined;
  #manifestSent = false;
  #digest: Uint8Array | undefined;
  #sentMarked = false;
  #ackedParts = 0;
  #active = true;
  #paused = false;
  #heardAt = performance.now();
  #firstFrameAt: number | undefined;
  readonly #stats = { sentBytes: 0, wireBytes: 0, frames: 0, resentParts: 0 };

  constructor(options: OutboundOptions) {
    this.#options = options;
    this.#crcs = new Uint32Array(options.table.partCount);
    this.#acknowledged = new Uint8Array(options.table.partCount);
    this.#sentAt = new Float64Array(options.table.partCount);
    this.#encoder = new PartEncoder(options);
    this.#offered = new OfferedObjects(options.table, options.ticket.tokens);
    this.#hold = options.pages.hold();
    // nobody may be waiting when it fails
    this.#done.promise.catch(() => undefined);
    options.deadline.addEventListener('abort', this.#onDeadline, { once: true });
    if (options.deadline.aborted) this.#onDeadline();
    else this.#sayOpen();
    for (let lane = 0; lane < LANES && this.#active; lane++) this.#lanes.push(this.#lane());
    void this.settled().then(() => this.#hold[Symbol.dispose]());
  }

  get active(): boolean {
    return this.#active;
  }

  get epoch(): number {
    return this.#options.ticket.epoch;
  }

  get failed(): AbortSignal {
    return this.#failure.signal;
  }

  get stats(): TransferStats {
    const { link, representation, table } = this.#options;
    return {
      rawBytes: table.totalBytes,
      ...this.#stats,
      codec: this.#tally.main,
      codecReason: link.policy.decision(table.partCount).reason,
      representation,
      convertMs: 0,
      transferMs: performance.now() - (this.#firstFrameAt ?? performance.now()),
    };
  }

  offer(endToken: number, layers?: LayerRange): void {
    if (this.#offered.tokens(endToken, layers)) this.#offeredMore();
  }

  offerFinal(layers?: LayerRange): void {
    if (this.#offered.final(layers)) this.#offeredMore();
  }

  finish(options: FirstTokenOptions): Promise<TransferStats> {
    this.#finishing ??= options;
    if (this.#offered.all()) this.#offeredMore();
    this.#manifestIfSent().catch((error: unknown) => this.fail(ServiceError.from(error), true));
    return this.#done.promise;
  }

  abort(reason: string): void {
    this.fail(
      new ServiceError(`the sender gave the KV transfer up: ${reason}`, { code: 'cancelled', reason: 'cancelled' }),
      true,
    );
  }

  /** Ends the transfer with an error; `tell` also tells the receiver. */
  fail(error: ServiceError, tell: boolean): void {
    if (!this.#active) return;
    if (tell) this.#say({ $case: 'abort', value: { reason: error.message.slice(0, 500) } });
    const { counters, log } = this.#options.context;
    counters.transfersFailed++;
    log.warn(
      { transfer: this.#options.ticket.transferId, reason: error.reason, receiver: this.#options.ticket.workerId },
      error.message,
    );
    this.#end();
    this.#failure.abort(error);
    this.#done.reject(error);
  }

  /** Takes a message of the receiver. */
  control(message: ReceiverMessage): void {
    if (!this.#active) return;
    this.#heardAt = performance.now();
    if (!this.#opened) this.#options.link.rate.answered(this.#heardAt - this.#openedAt);
    this.#opened = true;
    this.#paused = false;
    try {
      switch (message.$case) {
        case 'credit':
          return this.#credit(message.value);
        case 'missing':
          return this.#missing(message.value);
        case 'committed':
          return this.#committed(message.value);
        case 'refused':
          return this.fail(refusalError(message.value, this.#options.ticket.workerId), false);
        default:
          message satisfies never;
      }
    } catch (error) {
      this.fail(ServiceError.from(error), true);
    }
  }

  /** Every 250 ms: repeats what was not answered, shows life, watches the receiver; for `stalledMs` this process itself stood still. */
  tick(now: number, stalledMs: number): void {
    this.#heardAt = Math.min(now, this.#heardAt + stalledMs);
    if (!this.#active) return;
    const { silenceMs } = this.#options.context;
    if (now - this.#heardAt > silenceMs) return this.fail(silence('receiving', this.#options.ticket.workerId, silenceMs), true);
    if (!this.#opened) this.#sayOpen();
    else {
      if (this.#manifestSent) this.#sayManifest();
      void this.#provePublished();
      this.#sayProgress(false);
    }
    if (this.#options.context.outboundArena.arena.waiting > 0) {
      const sentAt = (index: number) => this.#sentAt[index] as number;
      const waits = (index: number) => this.#resend.has(index);
      void this.#frames.reclaim(now, sentAt, waits, () => this.#flushed());
    }
  }

  /** A connection went down: nothing leaves until the receiver is heard again. */
  disconnected(): void {
    this.#paused = true;
  }

  /** A connection came back: what was under way is lost, so ask what arrived. */
  reconnected(): void {
    if (!this.#active) return;
    this.#heardAt = performance.now();
    if (this.#opened) this.#sayProgress(true);
    else this.#sayOpen();
  }

  /** Resolves when no lane touches pages or slots any more. */
  async settled(): Promise<void> {
    await Promise.all(this.#lanes);
  }

  #offeredMore(): void {
    if (!this.#active) return;
    this.#sayProgress(false);
    this.#lanesWake.wake();
  }

  #onDeadline = (): void => {
    this.fail(ServiceError.from(this.#options.deadline.reason), true);
  };

  async #lane(): Promise<void> {
    try {
      while (this.#active) {
        const index = this.#next();
        if (index === undefined) await this.#lanesWake.waiting;
        else await this.#sendPart(this.#options.table.at(index));
      }
    } catch (error) {
      this.fail(ServiceError.from(error), true);
    }
  }

  /** The next part that may leave (S1), taken off its list. */
  #next(): number | undefined {
    if (this.#paused || !this.#options.bulkUp()) return undefined;
    for (const index of this.#resend) {
      this.#resend.delete(index);
      if (this.#acknowledged[index] === 0) return index;
    }
    const { table } = this.#options;
    if (this.#cursor >= table.partCount) return undefined;
    const { end } = table.at(this.#cursor);
    if (end > this.#offered.bytes || end > this.#upTo) return undefined;
    return this.#cursor++;
  }

  async #sendPart(part: PartLocation): Promise<void> {
    let frame = this.#frames.get(part.index);
    if (frame === undefined) {
      frame = await this.#encoder.encode(part, this.#aborter.signal);
      if (!this.#active || this.#acknowledged[part.index] !== 0) return frame.slot.release();
      this.#frames.set(part.index, frame);
      this.#crcs[part.index] = frame.encoded.rawCrc;
    }
    await this.#barrier;
    if (!this.#active) return;
    const resent = this.#sentAt[part.index] !== 0;
    const wireBytes = this.#options.publish(this.#encoder.finish(frame, part, resent));
    if (wireBytes === 0) {
      // the connection went down meanwhile; the receiver's next word wakes the lanes
      this.#resend.add(part.index);
      return;
    }
    this.#account(part, frame, wireBytes, resent);
    // shared by the lanes: a paused failpoint stops them all
    this.#barrier = failpoint('after_frame_k', this.#options.ticket.transferId);
    await this.#barrier;
    // `none` is encoded on this thread: let the loop breathe between frames
    await yieldToLoop();
    await this.#manifestIfSent();
  }

  #account(part: PartLocation, frame: OutboundFrame, wireBytes: number, resent: boolean): void {
    const { counters } = this.#options.context;
    const now = performance.now();
    this.#sentAt[part.index] = now;
    this.#firstFrameAt ??= now;
    this.#stats.frames++;
    this.#stats.sentBytes += frameBytes(frame);
    this.#stats.wireBytes += wireBytes;
    counters.framesSent++;
    counters.frameBytesSent += frameBytes(frame);
    frame.publishedAt = resent ? undefined : now;
    if (resent) {
      this.#stats.resentParts++;
      counters.partsResent++;
      return;
    }
    this.#publishedParts++;
    counters.rawBytesSent += part.length;
    this.#tally.add(frame.encoded.codec, part.length, frame.encoded.encodeMs);
  }

  /** S4 */
  async #manifestIfSent(): Promise<void> {
    if (this.#finishing === undefined || this.#sentMarked || this.#publishedParts < this.#options.table.partCount) return;
    this.#sentMarked = true;
    await failpoint('sent', this.#options.ticket.transferId);
    if (!this.#active) return;
    this.#manifestSent = true;
    this.#sayManifest();
  }

  #credit(credit: kvV1.Credit): void {
    const { table, link } = this.#options;
    learnFromCredit(link.rate, credit, this.#openedAt, this.#frames);
    this.#upTo = Math.max(this.#upTo, count(credit.upToBytes, 'up_to_bytes'));
    const contiguous = count(credit.contiguousBytes, 'contiguous_bytes');
    while (this.#ackedParts < table.partCount && table.at(this.#ackedParts).end <= contiguous)
      this.#acknowledge(this.#ackedParts++);
    this.#lanesWake.wake();
  }

  /** S3: what is there is acknowledged; what was published and isn't there goes out again. */
  #missing({ firstPart, have }: kvV1.Missing): void {
    const inPlace = readBitmap(firstPart, have, this.#options.table.partCount);
    while (this.#ackedParts < firstPart) this.#acknowledge(this.#ackedParts++);
    const before = performance.now() - RESEND_MS;
    const end = Math.min(this.#cursor, firstPart + 8 * have.length);
    for (let index = firstPart; index < end; index++) {
      const sentAt = this.#sentAt[index] as number;
      if (inPlace(index)) this.#acknowledge(index);
      else if (this.#acknowledged[index] === 0 && sentAt !== 0 && sentAt <= before) this.#resend.add(index);
    }
    this.#lanesWake.wake();
  }

  #acknowledge(index: number): void {
    this.#acknowledged[index] = 1;
    this.#frames.release(index);
  }

  #committed(committed: kvV1.Committed): void {
    if (!this.#manifestSent) return;
    const { link, context, ticket } = this.#options;
    learnFromReceiver(link.policy, committed);
    const { stats } = this;
    context.counters.transfersCommitted++;
    context.log.info({ transfer: ticket.transferId, receiver: ticket.workerId, receiverChip: ticket.chip, ...stats }, 'KV sent');
    this.#end();
    // not before the lanes let go of the pages
    void this.settled().then(() => this.#done.resolve(stats));
  }

  #sayOpen(): void {
    const { self, table, wire, context } = this.#options;
    this.#say(openMessage(self, table, wire.form, context));
    if (this.#offered.bytes > 0) this.#sayProgress(false);
  }

  #sayProgress(wantMissing: boolean): void {
    this.#say(progressMessage(this.#offered, this.#provenBytes, wantMissing));
  }

  /** What a flush after publishing has shown to be at the server. */
  async #provePublished(): Promise<void> {
    let parts = this.#cursor;
    while (parts > 0 && this.#sentAt[parts - 1] === 0) parts--;
    const published = parts === 0 ? 0 : this.#options.table.at(parts - 1).end;
    if (published === this.#provenBytes || !(await this.#flushed()) || !this.#active) return;
    this.#provenBytes = published;
    this.#sayProgress(false);
  }

  /** Whether the server has taken everything that was published so far. */
  async #flushed(): Promise<boolean> {
    if (!this.#options.bulkUp()) return false;
    return this.#options.context.flushBulk().then(
      () => this.#options.bulkUp(),
      () => false,
    );
  }

  #sayManifest(): void {
    this.#digest ??= partsDigest(this.#crcs);
    this.#say(manifestMessage(this.#options.table, this.#digest, this.#stats.sentBytes, this.#finishing ?? {}));
  }

  /** A message that the server refuses for its size ends the transfer; the caller hears why. */
  #say(message: SenderMessage): void {
    try {
      this.#options.say(message);
    } catch (error) {
      if (message.$case !== 'abort') this.fail(ServiceError.from(error), false);
    }
  }

  #end(): void {
    this.#active = false;
    this.#options.deadline.removeEventListener('abort', this.#onDeadline);
    this.#aborter.abort();
    this.#frames.releaseAll();
    this.#lanesWake.wake();
    this.#options.ended();
  }
}
