import { AsyncQueue, linkSignals } from '@causeway/lifecycle';
import { workerV1 } from '@causeway/proto';
import type { WorkerRecord } from '@causeway/registry';
import type { ChannelPool, RpcCallOptions } from '@causeway/rpc';
import type { TraceSpan } from '@causeway/telemetry';
import type { RequestContext } from '../request-context.ts';
import { type AttemptEvent, type DecodeEvent, decodeEvent, type PrefillEvent, prefillEvent, type Ticket } from './events.ts';
import { WorkerStream } from './worker-stream.ts';

/** Events that wait for the client; beyond them the workers' streams are no longer read. */
const EVENT_BUFFER = 64;
const DECODE_PATH = `/${workerV1.DecodeDefinition.fullName}/Decode`;
const PREFILL_PATH = `/${workerV1.PrefillDefinition.fullName}/Prefill`;

export interface AttemptOptions {
  /** From 1. */
  readonly number: number;
  readonly model: string;
  readonly generation: workerV1.Generation;
  readonly decode: WorkerRecord;
  readonly prefill: WorkerRecord | undefined;
}

/**
 * One attempt at (the rest of) an answer: a Decode stream that is its lease, and a Prefill stream when the prompt is prefilled
 * elsewhere. Both are read into one bounded queue of events, which fails with the reason for which the request ends. Disposing closes
 * both streams, which cancels and releases everything at the workers; nothing of the attempt runs here then.
 */
export class Attempt implements Disposable {
  readonly options: AttemptOptions;
  readonly span: TraceSpan;
  readonly events = new AsyncQueue<AttemptEvent>(EVENT_BUFFER);
  readonly #ctx: RequestContext;
  readonly #channels: ChannelPool;
  readonly #scope;
  readonly #decode: WorkerStream<DecodeEvent>;
  #prefill: WorkerStream<PrefillEvent> | undefined;
  /** The decode worker has the KV and the first token, or has ended. */
  #decodeBegun = false;

  /** Opens the Decode stream and asks for room. */
  constructor(ctx: RequestContext, channels: ChannelPool, options: AttemptOptions) {
    this.options = options;
    this.#ctx = ctx;
    this.#channels = channels;
    const { number, model, generation, prefill, decode } = options;
    this.span = ctx.span.child('attempt', {
      'causeway.attempt': number,
      'causeway.decode': decode.id,
      'causeway.prefill': prefill?.id,
    });
    this.#decode = new WorkerStream({
      ...this.#streamOptions(decode, DECODE_PATH),
      read: (bytes) => decodeEvent(workerV1.DecodeEvent.decode(bytes)),
      onEvent: (event) => this.#decodeSaid(event),
      failed: 'decode_failed',
    });
    const local = prefill === undefined;
    const reserve = { requestId: ctx.id, attempt: number, model, generation, local, computeOrder: prefill?.computeOrder };
    this.#command({ $case: 'reserve', value: reserve });
    this.#scope = linkSignals(ctx.signal);
    const { signal } = this.#scope;
    const stop = (): void => {
      this.#decode.cancel();
      this.#prefill?.cancel();
      this.events.fail(signal.reason as Error);
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  }

  get number(): number {
    return this.options.number;
  }

  /** Known tokens that a sequence is fed before it gives one, of the longest. */
  get replayedTokens(): number {
    const { replayIds, choices } = this.options.generation;
    return Math.max(replayIds.length, ...choices.map((choice) => choice.replayIds.length));
  }

  /** Starts the prefill worker on the ticket. */
  startPrefill(ticket: Ticket): void {
    const { prefill, number, model, generation } = this.options;
    if (prefill === undefined || this.#scope.signal.aborted) return;
    this.#prefill = new WorkerStream({
      ...this.#streamOptions(prefill, PREFILL_PATH),
      read: (bytes) => prefillEvent(workerV1.PrefillEvent.decode(bytes)),
      onEvent: (event) => this.#prefillSaid(event),
      failed: 'prefill_failed',
    });
    const request = { requestId: this.#ctx.id, attempt: number, model, generation, ticket };
    this.#prefill.send(workerV1.PrefillRequest.encode(request).finish());
    this.#prefill.end();
  }

  /** The prefill worker is lost: the decode worker prefills what it reserved. */
  recompute(): void {
    this.#prefill?.cancel();
    this.#command({ $case: 'recompute', value: {} });
  }

  /** This answer has ended here while others go on: nothing more of it is generated. */
  stopChoice(choice: number): void {
    this.#command({ $case: 'stopChoice', value: { choice } });
  }

  [Symbol.dispose](): void {
    this.#scope.abort();
    this.span.end();
  }

  #decodeSaid(event: DecodeEvent): boolean {
    const last = event.kind === 'finished' || event.kind === 'decode_failed';
    this.#decodeBegun ||= last || event.kind === 'kv_ready';
    return last;
  }

  #prefillSaid(event: PrefillEvent): boolean {
    // The decode worker is told the first token, unless it knows: it has begun.
    if (event.kind === 'first_token' && !this.#decodeBegun) {
      this.#command({ $case: 'firstToken', value: { token: event.token.wire } });
    }
    return event.kind === 'sent' || event.kind === 'prefill_failed';
  }

  #command(command: NonNullable<workerV1.DecodeCommand['command']>): void {
    this.#decode.send(workerV1.DecodeCommand.encode({ command }).finish());
  }

  #streamOptions(worker: WorkerRecord, path: string) {
    const call: RpcCallOptions = {
      requestId: this.#ctx.id,
      deadlineMs: this.#ctx.remainingMs(),
      headers: this.span.headers(),
    };
    return { channels: this.#channels, worker, path, call, queue: this.events };
  }
}
