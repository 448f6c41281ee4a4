/**
 * A transfer as its receiver runs it.
 *
 *   waiting -Open-> receiving -all parts + Manifest-> committed
 *      any of the first two -refusal, cancel, abort, deadline, lost sender-> failed
 *
 * Invariants
 *  R1  A part is written to pages only while the transfer receives, under a hold on them, after its checksums agree.
 *  R2  Parts may come in any order, any number of times; a part that is in place is never written again.
 *  R3  Nothing beyond the granted credit is taken.
 *  R4  `committed` settles once; then no message changes anything. A repeated Manifest is answered again by the endpoint.
 *  R5  `committed` settles only when no job of this transfer touches the pages any more.
 *  R6  Of pages that are not in wire order each block is written once, from parts that are all in place; all are before the commit.
 */
import { ServiceError } from '@causeway/errors';
import type { PageSet } from '@causeway/kv';
import { crc32c } from '@node-rs/crc32';
import type { kvV1 } from '@causeway/proto';
import { ArrivalLog } from './arrival-log.ts';
import { ArrivingBlocks } from './arriving-blocks.ts';
import { CodecTally, partsDigest } from './codec-tally.ts';
import type { CreditAccount } from './credit.ts';
import type { ReceiverMessage, SenderMessage } from './control.ts';
import type { EndpointContext } from './context.ts';
import { FRAME_HEADER_BYTES, type FrameHeader } from './frame.ts';
import { frameOffence } from './frame-offence.ts';
import type { LinkMeter } from './link-meter.ts';
import { LossWatch } from './loss-watch.ts';
import { Offences } from './offences.ts';
import { ObjectRuns } from './object-runs.ts';
import { PartBitmap } from './part-bitmap.ts';
import { placePart } from './part-placer.ts';
import { type PartLocation, PartTable } from './part-table.ts';
import { committedKv, committedMessage, creditMessage } from './receiver-messages.ts';
import { checkManifest, offeredBytes } from './sender-claims.ts';
import { silence } from './silence.ts';
import type { Incarnation } from './subjects.ts';
import { checkedOpen } from './opened-form.ts';
import type { CommittedKv, InboundTransfer, Representation, Ticket } from './types.ts';
import { count } from './wire-types.ts';

type Phase = 'waiting' | 'receiving' | 'committed' | 'failed';

export interface InboundOptions {
  ticket: Ticket;
  pages: PageSet;
  context: EndpointContext;
  /** Sends a message to the sender's control subject. */
  reply(sender: Incarnation, message: ReceiverMessage): void;
  /** Called once when the transfer has ended; `answer` is what repeated questions get. */
  ended(answer: ReceiverMessage): void;
}

export class Inbound implements InboundTransfer {
  readonly ticket: Ticket;
  readonly committed: Promise<CommittedKv>;
  readonly #options: InboundOptions;
  readonly #resolve: (value: CommittedKv) => void;
  readonly #reject: (error: ServiceError) => void;
  readonly #tally = new CodecTally();
  readonly #offences: Offences;
  readonly #loss: LossWatch;
  readonly #decoding = new Set<number>();
  readonly #jobs = new Set<Promise<void>>();
  #phase: Phase = 'waiting';
  #sender: (Incarnation & { chip: string }) | undefined;
  #table: PartTable | undefined;
  #runs: ObjectRuns | undefined;
  /** Pages that are made from what arrives; undefined where it is written to them as it is. */
  #blocks: ArrivingBlocks | undefined;
  #representation: Representation | undefined;
  #have = new PartBitmap(0);
  #crcs = new Uint32Array(0);
  #credit: CreditAccount | undefined;
  #link: LinkMeter | undefined;
  readonly #arrivals = new ArrivalLog();
  #openedAt = 0;
  #creditSent = { upTo: -1, received: 0 };
  #manifest: kvV1.Manifest | undefined;
  #published = 0;
  #rawBytes = 0;
  #receivedBytes = 0;
  #firstFrame: number | undefined;
  #heardAt = performance.now();

  constructor(options: InboundOptions) {
    this.ticket = options.ticket;
    this.#options = options;
    this.#loss = new LossWatch(() => options.context.flushBulk());
    this.#offences = new Offences(options.context.counters);
    const { promise, resolve, reject } = Promise.withResolvers<CommittedKv>();
    this.committed = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    // the caller may look at it late
    promise.catch(() => undefined);
  }

  get active(): boolean {
    return this.#phase === 'waiting' || this.#phase === 'receiving';
  }

  /** Who sends, once it has said hello. */
  get sender(): Incarnation | undefined {
    return this.#sender;
  }

  cancel(reason: string): void {
    this.fail(new ServiceError(`the receiver cancelled the KV transfer: ${reason}`, { code: 'cancelled', reason: 'cancelled' }));
  }

  /** Ends the transfer with an error and tells the sender. */
  fail(error: ServiceError): void {
    if (!this.active) return;
    const { code, reason, message } = error;
    this.#end('failed', { $case: 'refused', value: { code, reason, message } });
    const { counters, log } = this.#options.context;
    counters.transfersFailed++;
    log.warn({ transfer: this.ticket.transferId, reason, sender: this.#sender?.workerId }, message);
    // R5
    void Promise.all(this.#jobs).then(() => {
      this.#blocks?.letGo();
      this.#reject(error);
    });
  }

  /** Takes a message of a sender. Errors in it refuse the transfer. */
  control(message: SenderMessage): void {
    if (!this.active) return;
    this.#heardAt = performance.now();
    this.#credit?.heard();
    try {
      switch (message.$case) {
        case 'open':
          return this.#open(message.value);
        case 'progress':
          return this.#progress(message.value);
        case 'manifest':
          return this.#takeManifest(message.value);
        case 'abort':
          return this.fail(
            new ServiceError(`the sender gave the KV transfer up: ${message.value.reason.slice(0, 500)}`, {
              code: 'aborted',
              reason: 'transfer_failed',
              retry: 'other',
            }),
          );
        default:
          message satisfies never;
      }
    } catch (error) {
      this.fail(ServiceError.from(error));
    }
  }

  /** Takes a frame whose header is well formed and names this transfer. */
  frame(header: FrameHeader, frame: Uint8Array): void {
    const { counters } = this.#options.context;
    if (header.epoch !== this.ticket.epoch) {
      counters.staleFrames++;
      return;
    }
    if (this.#phase !== 'receiving' || this.#table === undefined || this.#runs === undefined || this.#credit === undefined) {
      counters.beyondCredit++;
      return;
    }
    this.#receivedBytes += frame.length;
    const gap = this.#link?.arrived(frame.length);
    this.#heardAt = performance.now();
    this.#firstFrame ??= this.#heardAt;
    this.#loss.arrived(this.#heardAt);
    const part = this.#table.find(header.object, header.part);
    const offence = frameOffence(header, part, this.ticket, this.#credit);
    if (part === undefined || offence?.reason === 'malformed_frame')
      return this.#offend('malformed_frame', offence?.message ?? '');
    if (this.#have.has(part.index) || this.#decoding.has(part.index)) {
      counters.duplicateFrames++;
      return;
    }
    if (offence !== undefined) return this.#offend(offence.reason, offence.message);
    this.#arrivals.add(part.index, this.#heardAt, gap);
    const body = frame.subarray(FRAME_HEADER_BYTES);
    // a raw body is summed once, by the placing, just before it is written
    const intact = header.codec === 'none' ? header.rawCrc === header.bodyCrc : crc32c(body) === header.bodyCrc;
    if (!intact) return this.#badChecksum(part);
    this.#decoding.add(part.index);
    this.#run(this.#place(this.#runs, part, header, body));
  }

  /** A header that matched no layout or no checksum came in on this transfer's subject. */
  badHeader(error: ServiceError): void {
    if (!this.active) return;
    if (error.reason === 'newer_version') return this.fail(error);
    if (error.reason === 'checksum') return this.#badChecksum(undefined);
    this.#offend('malformed_frame', error.message);
  }

  /** Every 250 ms: repeats credit, asks for what was lost, watches the sender; for `stalledMs` this process itself stood still. */
  tick(now: number, stalledMs: number): void {
    this.#heardAt = Math.min(now, this.#heardAt + stalledMs);
    if (stalledMs > 0) this.#credit?.heard();
    if (this.#phase !== 'receiving' || this.#credit === undefined || this.#table === undefined) return;
    this.#credit.grant();
    this.#sendCredit();
    void this.#askIfLost(now);
    const { silenceMs } = this.#options.context;
    const arrived = this.#manifest !== undefined && this.#have.complete;
    if (!arrived && now - this.#heardAt > silenceMs) this.fail(silence('sending', this.#sender?.workerId, silenceMs));
  }

  /** The connection was away: silence of that time is nobody's fault, and what was under way is lost. */
  reconnected(): void {
    this.#heardAt = performance.now();
    if (this.#phase === 'receiving') this.#askForMissing();
  }

  #open(open: kvV1.Open): void {
    if (this.#sender !== undefined) {
      const same = this.#sender.workerId === open.workerId && this.#sender.incarnation === open.incarnation;
      if (same) return this.#sendCredit();
      const about = { transfer: this.ticket.transferId, from: open.workerId };
      return this.#options.context.log.warn(about, 'a second sender was ignored');
    }
    this.#sender = { workerId: open.workerId, incarnation: open.incarnation, chip: open.chip.slice(0, 64) };
    const { context, pages } = this.#options;
    const { form, representation } = checkedOpen(this.ticket, open);
    const memory = context.memories.of(form);
    const table = new PartTable(memory.descriptor, this.ticket.objects, open.partBytes);
    this.#table = table;
    this.#representation = representation;
    this.#runs = new ObjectRuns({ pages, memory, table });
    if (memory.converts) this.#blocks = new ArrivingBlocks({ pages, memory, table });
    this.#have = new PartBitmap(table.partCount);
    this.#crcs = new Uint32Array(table.partCount);
    this.#link = context.links.of(this.#sender);
    const rttMs = context.rttMs() + open.rttUs / 1000;
    this.#credit = context.credits.open(this.#link, open.partBytes, rttMs, () => this.#sendCredit());
    if (pages.state === 'reserved') pages.startFilling();
    this.#phase = 'receiving';
    this.#openedAt = performance.now();
    this.#sendCredit();
  }

  #progress(progress: kvV1.Progress): void {
    if (this.#credit === undefined || this.#table === undefined) return;
    const published = Math.min(count(progress.publishedBytes, 'published_bytes'), this.#table.totalBytes);
    this.#published = Math.max(this.#published, published);
    this.#credit.offered(offeredBytes(this.#table, progress));
    if (this.#credit.grant()) this.#sendCredit();
    if (progress.wantMissing) this.#askForMissing();
  }

  #takeManifest(manifest: kvV1.Manifest): void {
    if (this.#table === undefined || this.#credit === undefined) return;
    checkManifest(this.#table, manifest);
    this.#manifest = manifest;
    this.#credit.offered(this.#table.totalBytes);
    this.#credit.grant();
    this.#commitIfComplete();
  }

  async #place(runs: ObjectRuns, part: PartLocation, header: FrameHeader, body: Uint8Array): Promise<void> {
    const { context, pages } = this.#options;
    try {
      const wanted = () => this.#phase === 'receiving';
      const decodeMs = await placePart({ context, pages, runs, wanted }, part, header, body);
      if (decodeMs !== undefined && wanted()) this.#placed(part, header, decodeMs);
    } catch (error) {
      this.#decoding.delete(part.index);
      const failure = ServiceError.from(error);
      if (failure.reason === 'checksum' || failure.reason === 'malformed_frame') this.#badChecksum(part);
      else this.fail(failure);
    }
  }

  #placed(part: PartLocation, header: FrameHeader, decodeMs: number): void {
    this.#decoding.delete(part.index);
    this.#have.add(part.index);
    this.#crcs[part.index] = header.rawCrc;
    this.#rawBytes += part.length;
    this.#options.context.counters.rawBytesReceived += part.length;
    this.#tally.add(header.codec, part.length, decodeMs);
    const conversion = this.#blocks?.placed(part);
    if (conversion !== undefined) this.#run(this.#convert(conversion));
    const credit = this.#credit;
    if (credit === undefined) return;
    credit.received(part.length, part.end);
    credit.grant();
    // an ack for every part would be noise on a fast link with small parts
    if (
      this.#have.complete ||
      this.#rawBytes - this.#creditSent.received >= credit.window / 4 ||
      credit.upTo - this.#rawBytes < part.length
    )
      this.#sendCredit();
    this.#commitIfComplete();
  }

  #commitIfComplete(): void {
    const manifest = this.#manifest;
    if (manifest === undefined || !this.#have.complete || this.#phase !== 'receiving') return;
    if (this.#blocks?.done === false) return;
    if (!partsDigest(this.#crcs).equals(manifest.digest)) {
      const message = 'the manifest digest does not match the parts that arrived';
      return this.fail(new ServiceError(message, { code: 'data_loss', reason: 'checksum', retry: 'other' }));
    }
    this.#blocks?.letGo();
    this.#commit(manifest);
  }

  #run(job: Promise<void>): void {
    this.#jobs.add(job);
    void job.finally(() => this.#jobs.delete(job));
  }

  /** Waits for blocks to become pages. */
  async #convert(conversion: Promise<void>): Promise<void> {
    try {
      await conversion;
      this.#commitIfComplete();
    } catch (error) {
      this.fail(ServiceError.from(error));
    }
  }

  #commit(manifest: kvV1.Manifest): void {
    const representation = this.#representation;
    if (representation === undefined) return;
    try {
      this.#options.pages.commit();
    } catch (error) {
      return this.fail(ServiceError.from(error));
    }
    const bytes = { rawBytes: this.#rawBytes, receivedBytes: this.#receivedBytes };
    const result = committedKv(manifest, {
      ...bytes,
      codec: this.#tally.main,
      firstFrame: this.#firstFrame,
      sender: this.#sender,
      representation,
      convertMs: this.#blocks?.ms ?? 0,
    });
    this.#end('committed', { $case: 'committed', value: committedMessage(result, this.#tally) });
    this.#options.context.counters.transfersCommitted++;
    this.#resolve(result);
  }

  /** It is asked for again once nothing more arrives, together with whatever else is missing. */
  #badChecksum(part: PartLocation | undefined): void {
    if (part !== undefined) this.#published = Math.max(this.#published, part.end);
    const refused = this.#offences.noteChecksum(part === undefined ? 'a header' : `part ${part.object}/${part.part}`);
    if (refused !== undefined) this.fail(refused);
  }

  #offend(reason: 'malformed_frame' | 'beyond_credit', message: string): void {
    const refused = this.#offences.note(reason, message);
    if (refused !== undefined) this.fail(refused);
  }

  async #askIfLost(now: number): Promise<void> {
    const owed = () => this.#phase === 'receiving' && this.#decoding.size === 0 && this.#published > this.#contiguousBytes();
    if (await this.#loss.lost(now, this.#rawBytes, owed)) this.#askForMissing();
  }

  #contiguousBytes(): number {
    if (this.#table === undefined) return 0;
    const leading = this.#have.contiguous;
    return leading === 0 ? 0 : this.#table.at(leading - 1).end;
  }

  #sendCredit(): void {
    if (this.#sender === undefined || this.#credit === undefined) return;
    this.#creditSent = { upTo: this.#credit.upTo, received: this.#rawBytes };
    const bytes = { ...this.#creditSent, contiguous: this.#contiguousBytes() };
    this.#options.reply(this.#sender, creditMessage(bytes, this.#arrivals.take(), this.#openedAt));
  }

  #askForMissing(): void {
    if (this.#sender === undefined || this.#table === undefined) return;
    this.#options.reply(this.#sender, { $case: 'missing', value: this.#have.window() });
  }

  #end(phase: 'committed' | 'failed', answer: ReceiverMessage): void {
    this.#phase = phase;
    this.#credit?.close();
    if (this.#sender !== undefined) this.#options.reply(this.#sender, answer);
    this.#options.ended(answer);
  }
}
