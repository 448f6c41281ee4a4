import { ServiceError } from '@causeway/errors';
import { AsyncQueue, linkSignals } from '@causeway/lifecycle';
import { workerV1 } from '@causeway/proto';
import type { WorkerRecord } from '@causeway/registry';
import type { ChannelPool, RpcCallOptions } from '@causeway/rpc';
import type { TraceSpan } from '@causeway/telemetry';
import type { RequestContext } from '../request-context.ts';
import { type AttemptEvent, decodeEvent, prefillEvent, type Ticket, type WorkerToken } from './events.ts';

/** Events that wait for the client; beyond them the workers' streams are no longer read. */
const EVENT_BUFFER = 64;
/** Commands of one attempt beside those of each choice (its first token, its stop): reserve, recompute. */
const COMMANDS = 2;
const CHOICE_COMMANDS = 2;

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
 * elsewhere. Both are read into one bounded queue of events. Disposing closes both streams, which cancels and releases
 * everything at the workers, and waits until nothing of the attempt runs here.
 */
export class Attempt implements AsyncDisposable {
  readonly options: AttemptOptions;
  readonly span: TraceSpan;
  readonly events = new AsyncQueue<AttemptEvent>(EVENT_BUFFER);
  readonly #ctx: RequestContext;
  readonly #channels: ChannelPool;
  readonly #commands: AsyncQueue<workerV1.DecodeCommand>;
  readonly #scope;
  readonly #prefillScope;
  readonly #running: Promise<void>[] = [];
  /** The decode worker has the KV and the first token, or has ended. */
  #decodeBegun = false;

  /** Opens the Decode stream and asks for room. */
  constructor(ctx: RequestContext, channels: ChannelPool, options: AttemptOptions) {
    this.options = options;
    this.#ctx = ctx;
    this.#channels = channels;
    this.#scope = linkSignals(ctx.signal);
    this.#prefillScope = linkSignals(this.#scope.signal);
    const { number, model, generation, prefill, decode } = options;
    this.#commands = new AsyncQueue(COMMANDS + CHOICE_COMMANDS * Math.max(1, generation.choices.length));
    this.span = ctx.span.child('attempt', {
      'causeway.attempt': number,
      'causeway.decode': decode.id,
      'causeway.prefill': prefill?.id,
    });
    const reserve: workerV1.Reserve = {
      requestId: ctx.id,
      attempt: number,
      model,
      generation,
      local: prefill === undefined,
      computeOrder: prefill?.computeOrder,
    };
    this.#commands.tryPush({ command: { $case: 'reserve', value: reserve } });
    this.#running.push(this.#read('decode_failed', this.#scope.signal, () => this.#decodeEvents()));
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
    this.#running.push(this.#read('prefill_failed', this.#prefillScope.signal, () => this.#prefillEvents(ticket)));
  }

  /** The prefill worker is lost: the decode worker prefills what it reserved. */
  recompute(): void {
    this.#prefillScope.abort();
    this.#commands.tryPush({ command: { $case: 'recompute', value: {} } });
  }

  /** This answer has ended here while others go on: nothing more of it is generated. */
  stopChoice(choice: number): void {
    this.#commands.tryPush({ command: { $case: 'stopChoice', value: { choice } } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#scope.abort();
    this.#commands.close();
    this.events.close();
    await Promise.all(this.#running);
    this.span.end();
    this.#prefillScope[Symbol.dispose]();
    this.#scope[Symbol.dispose]();
  }

  async *#decodeEvents(): AsyncGenerator<AttemptEvent> {
    const { decode } = this.options;
    const client = this.#channels.client(workerV1.DecodeDefinition, decode.address);
    let finished = false;
    for await (const message of client.decode(this.#commands, this.#call(this.#scope.signal))) {
      const event = decodeEvent(message);
      finished ||= event.kind === 'finished' || event.kind === 'decode_failed';
      this.#decodeBegun ||= finished || event.kind === 'kv_ready';
      // A worker with several choices ends its stream only then: none of their stops can come too late.
      if (finished) this.#commands.close();
      yield event;
    }
    if (!finished) throw endedEarly(decode);
  }

  async *#prefillEvents(ticket: Ticket): AsyncGenerator<AttemptEvent> {
    const { prefill, number, model, generation } = this.options;
    if (prefill === undefined) return;
    const client = this.#channels.client(workerV1.PrefillDefinition, prefill.address);
    const request = { requestId: this.#ctx.id, attempt: number, model, generation, ticket };
    let finished = false;
    for await (const message of client.prefill(request, this.#call(this.#prefillScope.signal))) {
      const event = prefillEvent(message);
      finished ||= event.kind === 'sent' || event.kind === 'prefill_failed';
      if (event.kind === 'first_token') this.#forwardFirstToken(event.token);
      yield event;
    }
    if (!finished) throw endedEarly(prefill);
  }

  /**
   * Tells the decode worker the first token, unless it knows: it has begun. (A message to a stream that has ended would keep the
   * HTTP/2 stream open for ever.)
   */
  #forwardFirstToken(token: WorkerToken): void {
    if (!this.#decodeBegun) this.#commands.tryPush({ command: { $case: 'firstToken', value: { token: token.wire } } });
  }

  #call(signal: AbortSignal): RpcCallOptions & { signal: AbortSignal } {
    return { signal, requestId: this.#ctx.id, deadlineMs: this.#ctx.remainingMs(), headers: this.span.headers() };
  }

  /** Moves a stream's events into the queue, as fast as they are taken; its failure is the last of them. */
  async #read(
    failed: 'decode_failed' | 'prefill_failed',
    signal: AbortSignal,
    source: () => AsyncIterable<AttemptEvent>,
  ): Promise<void> {
    try {
      for await (const event of source()) {
        if (!(await this.events.push(event, signal))) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      await this.events.push({ kind: failed, error: ServiceError.from(error) }, signal).catch(() => undefined);
    }
  }
}

function endedEarly(worker: WorkerRecord): ServiceError {
  return new ServiceError(`worker ${worker.id} ended its stream early`, {
    code: 'unavailable',
    reason: 'worker_lost',
    retry: 'other',
  });
}
