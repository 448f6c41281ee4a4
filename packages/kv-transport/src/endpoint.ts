/**
 * A worker's door to the KV transport: two NATS connections (frames on bulk, everything else on control), one wildcard
 * subscription each, the open transfers, and the memory and threads that they share.
 */
import { randomBytes } from 'node:crypto';
import { fail, ServiceError } from '@causeway/errors';
import {
  compareDescriptors,
  compareFingerprints,
  type KvDescriptor,
  objectTokens,
  type PageSet,
  validateDescriptor,
  validateFingerprint,
  wireFormOf,
  wirePageBytes,
} from '@causeway/kv';
import { deadlineSignal } from '@causeway/lifecycle';
import type { EndpointContext, TransportLog } from './context.ts';
import {
  decodeReceiverControl,
  decodeSenderControl,
  encodeReceiverControl,
  encodeSenderControl,
  type ReceiverMessage,
} from './control.ts';
import { ConvertingOutbound } from './converting-outbound.ts';
import { connectLinks } from './endpoint-links.ts';
import { createEndpointMemory, type EndpointMemory } from './endpoint-memory.ts';
import { type KvEndpointOptions, LARGEST_PART, OBJECT_BYTES, partSize } from './endpoint-options.ts';
import { FRAME_HEADER_BYTES, readFrameHeader } from './frame.ts';
import { FrameRecorder } from './frame-recorder.ts';
import { Inbound } from './inbound.ts';
import type { KvLink } from './kv-link.ts';
import { LinkPolicies, type LinkState } from './link-policies.ts';
import { Outbound } from './outbound.ts';
import { PartTable } from './part-table.ts';
import { newTicket, wireFor } from './new-transfer.ts';
import { RecentTransfers } from './recent-transfers.ts';
import {
  controlWildcard,
  frameSubject,
  frameWildcard,
  type Incarnation,
  parseControlSubject,
  receiverControlSubject,
  senderControlSubject,
  transferOfFrameSubject,
} from './subjects.ts';
import type { InboundTransfer, OutboundTransfer, ReceiveOptions, SendOptions, TransportCounters } from './types.ts';

const TICK_MS = 250;

const SILENT: TransportLog = { info: () => undefined, warn: () => undefined };

export class KvEndpoint implements AsyncDisposable {
  readonly incarnation: string;
  readonly #options: KvEndpointOptions;
  readonly #self: Incarnation & { chip: string };
  readonly #context: EndpointContext;
  readonly #closing = new AbortController();
  readonly #inbound = new Map<string, Inbound>();
  readonly #outbound = new Map<string, Outbound>();
  /** What must settle before the memory goes. */
  readonly #settling = new Set<Promise<unknown>>();
  readonly #recent = new RecentTransfers();
  readonly #policies: LinkPolicies;
  readonly #recorder: FrameRecorder | undefined;
  readonly #memory: EndpointMemory;
  readonly #partBytes: number;
  readonly #bulk: KvLink;
  readonly #control: KvLink;
  readonly #log: TransportLog;
  readonly #timer: NodeJS.Timeout;
  #rttMs = 1;
  #lastTick = performance.now();
  /** Both connections are up and subscribed. */
  #settled = true;
  #disposal: Promise<void> | undefined;

  /**
   * Connects and subscribes; resolves when tickets may be given.
   * @throws ServiceError `dependency_unavailable` when NATS doesn't answer by the deadline, `payload_too_large` when its
   * max_payload can't hold a useful frame, or a descriptor's or fingerprint's own error
   */
  static async connect(options: KvEndpointOptions): Promise<KvEndpoint> {
    const descriptor = validateDescriptor(options.descriptor ?? options.pool.descriptor);
    compareDescriptors(options.pool.descriptor, descriptor);
    validateFingerprint(options.fingerprint);
    const log = options.log ?? SILENT;
    const late: { endpoint?: KvEndpoint } = {};
    const { bulk, control } = await connectLinks(options, log, (status) => {
      if (status === 'up') void late.endpoint?.reconnected();
      else late.endpoint?.disconnected();
    });
    try {
      const endpoint = new KvEndpoint(options, descriptor, bulk, control);
      late.endpoint = endpoint;
      await endpoint.#subscribe();
      return endpoint;
    } catch (error) {
      await late.endpoint?.[Symbol.asyncDispose]();
      await Promise.all([bulk[Symbol.asyncDispose](), control[Symbol.asyncDispose]()]);
      throw error;
    }
  }

  private constructor(options: KvEndpointOptions, descriptor: KvDescriptor, bulk: KvLink, control: KvLink) {
    this.#options = options;
    this.#log = options.log ?? SILENT;
    this.incarnation = options.incarnation ?? randomBytes(8).toString('hex');
    this.#self = { workerId: options.workerId, incarnation: this.incarnation, chip: options.chip };
    this.#bulk = bulk;
    this.#control = control;
    const objectBytes = (objectTokens(descriptor, OBJECT_BYTES) / descriptor.storage.blockTokens) * wirePageBytes(descriptor);
    this.#partBytes = partSize(Math.min(bulk.maxPayload - FRAME_HEADER_BYTES, LARGEST_PART), objectBytes);
    this.#memory = createEndpointMemory({ ...options, descriptor, log: this.#log }, this.#partBytes, this.#closing.signal, {
      rttMs: () => this.#rttMs,
      flushBulk: () => bulk.flush(),
    });
    this.#context = this.#memory.context;
    const { threads } = this.#context.codecs;
    this.#policies = new LinkPolicies({ codec: options.codec, incarnation: this.incarnation, threads });
    this.#recorder = options.recordFrames === undefined ? undefined : new FrameRecorder(options.recordFrames);
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref();
  }

  /** Both connections are up. */
  get connected(): boolean {
    return this.#bulk.up && this.#control.up;
  }

  get counters(): Readonly<TransportCounters> {
    this.#context.counters.wireBytesSent = this.#bulk.wireBytes + this.#control.wireBytes;
    return this.#context.counters;
  }

  /** The links that KV was sent over, the last one first. */
  get links(): LinkState[] {
    return this.#policies.states;
  }

  /** Transfers that are open now. */
  get open(): { inbound: number; outbound: number; creditBytes: number } {
    return { inbound: this.#inbound.size, outbound: this.#outbound.size, creditBytes: this.#context.credits.outstanding };
  }

  /**
   * Makes room to receive `tokens` tokens into `pages` and gives the ticket for it.
   * @throws ServiceError when pages are too few or not new, or the connection is down
   */
  receive(options: ReceiveOptions): InboundTransfer {
    this.#checkOpen();
    if (!this.connected) {
      fail('unavailable', 'dependency_unavailable', 'NATS is away: no KV can be received now', { retry: 'same' });
    }
    const { pages, tokens, deadlineMs } = options;
    this.#checkRoom(pages, tokens);
    if (pages.state !== 'reserved' && pages.state !== 'filling') {
      fail(
        'failed_precondition',
        'internal',
        `pages of epoch ${pages.epoch} are ${pages.state}: nothing can be received into them`,
      );
    }
    options.signal.throwIfAborted();
    const ticket = newTicket(options, this.#context, {
      ...this.#self,
      maxPayload: this.#bulk.maxPayload,
      maxPartBytes: this.#partBytes,
    });
    const deadline = deadlineSignal(deadlineMs, options.signal);
    const { transferId } = ticket;
    const transfer = new Inbound({
      ticket,
      pages,
      context: this.#context,
      reply: (sender, message) => this.#reply(sender, ticket, message),
      ended: (answer) => {
        deadline.signal.removeEventListener('abort', onAbort);
        deadline[Symbol.dispose]();
        this.#inbound.delete(transferId);
        this.#recent.add(transferId, { epoch: ticket.epoch, answer, sender: transfer.sender });
      },
    });
    const onAbort = () => transfer.fail(ServiceError.from(deadline.signal.reason));
    deadline.signal.addEventListener('abort', onAbort, { once: true });
    this.#inbound.set(transferId, transfer);
    return this.#untilSettled(transfer, transfer.committed);
  }

  /**
   * Starts sending to the receiver that gave the ticket. Says hello at once, so that a refusal comes before the work.
   * @throws ServiceError `fingerprint_mismatch`, `descriptor_mismatch`, `payload_too_large`
   */
  send(options: SendOptions): OutboundTransfer {
    this.#checkOpen();
    const { ticket, pages } = options;
    compareFingerprints(this.#context.fingerprint, ticket.fingerprint);
    const { wire, representation } = wireFor(this.#context, ticket);
    const memory = this.#context.memories.of(wire.form);
    if (this.#outbound.has(ticket.transferId)) {
      fail('already_exists', 'bad_request', `transfer ${ticket.transferId} is being sent already`);
    }
    const partBytes = partSize(
      Math.min(ticket.maxPayload - FRAME_HEADER_BYTES, this.#bulk.maxPayload - FRAME_HEADER_BYTES, ticket.maxPartBytes),
      this.#partBytes,
    );
    const table = new PartTable(memory.descriptor, ticket.objects, partBytes);
    this.#checkRoom(pages, ticket.tokens);
    options.signal.throwIfAborted();
    const deadline = deadlineSignal(ticket.deadlineMs, options.signal);
    const subject = frameSubject(ticket, ticket.transferId);
    const control = receiverControlSubject(ticket, ticket.transferId);
    const link = this.#policies.of(ticket, wire.form.dtype, table.partCount);
    const transfer = new Outbound({
      ticket,
      pages,
      table,
      context: this.#context,
      memory,
      wire,
      representation,
      link,
      self: this.#self,
      deadline: deadline.signal,
      tamper: this.#options.tamper,
      bulkUp: () => this.#bulk.up,
      publish: (frame) => {
        const bytes = this.#bulk.publish(subject, frame);
        if (bytes > 0) this.#recorder?.write(frame);
        return bytes;
      },
      say: (message) => {
        const { transferId, epoch } = ticket;
        this.#control.publish(control, encodeSenderControl({ transferId, epoch, message }));
      },
      ended: () => {
        deadline[Symbol.dispose]();
        this.#outbound.delete(ticket.transferId);
      },
    });
    if (transfer.active) this.#outbound.set(ticket.transferId, transfer);
    this.#log.info(
      {
        transfer: ticket.transferId,
        receiver: ticket.workerId,
        bytes: table.totalBytes,
        parts: table.partCount,
        codec: link.policy.decision(table.partCount),
        form: wire.reason,
      },
      'sending KV',
    );
    if (!memory.converts) return this.#untilSettled(transfer, transfer.settled());
    const converting = new ConvertingOutbound(transfer, { memory, pages, ticket });
    return this.#untilSettled(converting, converting.settled);
  }

  /** Ends every transfer, waits for jobs on pages, closes the connections. Idempotent. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#close();
    return this.#disposal;
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    for (const transfer of this.#outbound.values()) transfer.abort('the worker is stopping');
    for (const transfer of this.#inbound.values()) transfer.cancel('the worker is stopping');
    if (this.connected) await this.#control.flush().catch(() => undefined);
    this.#closing.abort(new ServiceError('the KV transport is closing', { code: 'unavailable', reason: 'draining' }));
    await Promise.all(this.#settling);
    await Promise.all([this.#bulk[Symbol.asyncDispose](), this.#control[Symbol.asyncDispose]()]);
    await this.#memory[Symbol.asyncDispose]();
    await this.#recorder?.[Symbol.asyncDispose]();
  }

  async #subscribe(): Promise<void> {
    await this.#bulk.subscribe(frameWildcard(this.#self), (subject, data) => this.#frame(subject, data));
    await this.#control.subscribe(controlWildcard(this.#self), (subject, data) => this.#controlMessage(subject, data));
    this.#rttMs = await this.#bulk.rttMs();
  }

  #frame(subject: string, frame: Uint8Array): void {
    const { counters } = this.#context;
    counters.framesReceived++;
    counters.frameBytesReceived += frame.length;
    const transferId = transferOfFrameSubject(subject);
    const transfer = this.#inbound.get(transferId);
    if (transfer === undefined) {
      if (this.#recent.get(transferId) === undefined) counters.unknownTransfers++;
      else counters.lateFrames++;
      return;
    }
    try {
      const header = readFrameHeader(frame);
      if (header.transferId !== transferId) {
        fail('invalid_argument', 'malformed_frame', `a frame of transfer ${header.transferId} on the subject of ${transferId}`);
      }
      transfer.frame(header, frame);
    } catch (error) {
      transfer.badHeader(ServiceError.from(error));
    }
  }

  #controlMessage(subject: string, data: Uint8Array): void {
    const { transferId, role } = parseControlSubject(subject);
    try {
      if (role === 'rx') {
        const control = decodeSenderControl(data);
        const transfer = this.#inbound.get(transferId);
        if (control.transferId !== transferId) return void this.#context.counters.malformedControls++;
        if (transfer !== undefined) {
          if (control.epoch === transfer.ticket.epoch) transfer.control(control.message);
          else this.#context.counters.staleFrames++;
          return;
        }
        const ended = this.#recent.get(transferId);
        // whoever still asks, or comes too late, hears how it ended
        const { message } = control;
        if (ended === undefined || ended.epoch !== control.epoch || message.$case === 'abort') return;
        const sender = ended.sender ?? (message.$case === 'open' ? message.value : undefined);
        if (sender !== undefined) this.#reply(sender, { transferId, epoch: ended.epoch }, ended.answer);
        return;
      }
      const control = decodeReceiverControl(data);
      const transfer = this.#outbound.get(transferId);
      if (transfer !== undefined && control.transferId === transferId && control.epoch === transfer.epoch)
        transfer.control(control.message);
    } catch (error) {
      this.#context.counters.malformedControls++;
      this.#log.warn({ transfer: transferId, err: error }, 'a control message was dropped');
    }
  }

  #reply(sender: Incarnation, of: { transferId: string; epoch: number }, message: ReceiverMessage): void {
    const { transferId, epoch } = of;
    // a sender must not go on before frames can arrive here; whatever is skipped is said again after reconnecting
    if (!this.#settled) return;
    try {
      this.#control.publish(senderControlSubject(sender, transferId), encodeReceiverControl({ transferId, epoch, message }));
    } catch (error) {
      this.#log.warn({ transfer: transferId, err: error }, 'a control message could not be sent');
    }
  }

  /** A connection went down: what is under way may be lost. */
  private disconnected(): void {
    this.#settled = false;
    for (const transfer of this.#outbound.values()) transfer.disconnected();
  }

  /** Once both connections are up and the server has the subscriptions again, transfers go on. */
  private async reconnected(): Promise<void> {
    if (!this.connected) return;
    await Promise.all([this.#bulk.flush(), this.#control.flush()]).catch(() => undefined);
    if (!this.connected || this.#settled) return;
    this.#settled = true;
    for (const transfer of this.#inbound.values()) transfer.reconnected();
    for (const transfer of this.#outbound.values()) transfer.reconnected();
  }

  #tick(): void {
    const now = performance.now();
    const stalledMs = Math.max(0, now - this.#lastTick - 2 * TICK_MS);
    this.#lastTick = now;
    // silence while the connection is away is nobody's fault
    if (!this.connected || !this.#settled) return;
    for (const transfer of this.#inbound.values()) transfer.tick(now, stalledMs);
    for (const transfer of this.#outbound.values()) transfer.tick(now, stalledMs);
  }

  /** Remembers that jobs of a transfer may run until `settled` settles. */
  #untilSettled<T>(transfer: T, settled: Promise<unknown>): T {
    const done = settled.catch(() => undefined).finally(() => this.#settling.delete(done));
    this.#settling.add(done);
    return transfer;
  }

  #checkRoom(pages: PageSet, tokens: number): void {
    const needed = this.#context.memories.of(wireFormOf(this.#context.descriptor.storage)).places.pages(tokens);
    if (pages.pages.length >= needed) return;
    fail('invalid_argument', 'internal', `KV of ${tokens} tokens takes ${needed} pages; ${pages.pages.length} are too few`);
  }

  #checkOpen(): void {
    if (this.#disposal !== undefined) fail('unavailable', 'draining', 'the KV transport is closing', { retry: 'other' });
  }
}
