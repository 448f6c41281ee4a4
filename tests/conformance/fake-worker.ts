/**
 * Workers that speak the worker protocol and register in Redis as real ones do, but whose tokens come from a script: what a
 * router must do with slow, failing, lying and vanishing workers is tested against them. A fabric stands for NATS.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { type Fingerprint, fingerprint } from '@causeway/kv';
import { abortable } from '@causeway/lifecycle';
import { type kvV1, workerV1 } from '@causeway/proto';
import { connectRedis, RegistryWriter, type WorkerRecord, type WorkerState } from '@causeway/registry';
import { createRpcServer, type RpcContext, rpcService } from '@causeway/rpc';
import { logprobAt, promptLogprobAt, RAW_BYTES, REPRESENTATION, SENT_BYTES, stats } from './fake-numbers.ts';

const { FinishReason, KvOutcome } = workerV1;

export const MODEL = 'tiny-moe';

/** What happened, in order, as the fake workers saw it. */
export interface FakeEvent {
  worker: string;
  what: 'reserve' | 'first_token' | 'recompute' | 'stop_choice' | 'token' | 'decode ended' | 'prefill' | 'prefill ended';
  requestId: string;
  attempt: number;
  /** Of a token. */
  position?: number;
  /** Of a token, a first token or a stop. */
  choice?: number;
  generation?: workerV1.Generation;
  local?: boolean;
}

/** Transfers by id; resolved by the sender, awaited by the receiver. */
export class Fabric {
  readonly #commits = new Map<string, PromiseWithResolvers<number | undefined>>();
  readonly events: FakeEvent[] = [];

  commit(transferId: Uint8Array, firstToken: number | undefined): void {
    this.#entry(transferId).resolve(firstToken);
  }

  committed(transferId: Uint8Array): Promise<number | undefined> {
    return this.#entry(transferId).promise;
  }

  /** Events of one kind. */
  of(what: FakeEvent['what'], worker?: string): FakeEvent[] {
    return this.events.filter((event) => event.what === what && (worker === undefined || event.worker === worker));
  }

  #entry(transferId: Uint8Array): PromiseWithResolvers<number | undefined> {
    const key = Buffer.from(transferId).toString('hex');
    let entry = this.#commits.get(key);
    if (entry === undefined) {
      entry = Promise.withResolvers();
      this.#commits.set(key, entry);
    }
    return entry;
  }
}

/** Where a script can act. Hooks may wait (until the call's signal aborts) or throw. */
export interface FakeScript {
  /** Token ids of the answer by position; the last one ends it. */
  answer: readonly number[];
  /** Of further choices, by index; those that have none here answer as the first. */
  answers?: readonly (readonly number[] | undefined)[];
  /** Whether the last token ends it by `stop` (end of sequence); default `length`. */
  endsWith?: 'stop' | 'length';
  onReserve?: (call: FakeCall) => Promise<void>;
  onPrefill?: (call: FakeCall) => Promise<void>;
  /** Before scores of the prompt's own tokens are told, at the prefill worker. */
  beforeScores?: (position: number, call: FakeCall) => Promise<void>;
  /** After the first token was sent, before the transfer commits. */
  beforeCommit?: (call: FakeCall) => Promise<void>;
  afterCommit?: (call: FakeCall) => Promise<void>;
  beforeToken?: (position: number, call: FakeCall, choice: number) => Promise<void>;
}

export interface FakeCall {
  worker: string;
  requestId: string;
  attempt: number;
  generation: workerV1.Generation;
  signal: AbortSignal;
}

export interface FakeWorkerOptions {
  id: string;
  role: 'prefill' | 'decode';
  redisUrl: string;
  fabric: Fabric;
  script: FakeScript;
  contextLength?: number;
  maxSequences?: number;
  leaseMs?: number;
  /** Makes another fingerprint. */
  weights?: string;
  /** Name of what it serves; default `MODEL`. */
  model?: string;
}

export interface FakeWorker extends AsyncDisposable {
  readonly id: string;
  readonly incarnation: string;
  /** gRPC, host:port. */
  readonly address: string;
  readonly activeCalls: number;
  script: FakeScript;
  report(state: Partial<WorkerState>): void;
  /** Takes itself out of the registry, as an ended lease does; its calls go on. */
  leave(): Promise<void>;
  /** As SIGKILL does: connections break, the registration stays until its lease ends. */
  kill(): Promise<void>;
}

/** Starts a worker and waits until it is registered. */
export async function startFakeWorker(options: FakeWorkerOptions): Promise<FakeWorker> {
  const incarnation = randomUUID();
  const self = { script: options.script };
  const services =
    options.role === 'decode'
      ? rpcService(workerV1.DecodeDefinition, { decode: (commands, context) => decode(options, self, commands, context) })
      : rpcService(workerV1.PrefillDefinition, { prefill: (request, context) => prefill(options, self, request, context) });
  const server = createRpcServer({ host: '127.0.0.1', port: 0, services: [services], reflection: false });
  const port = await server.listen();
  const redis = await connectRedis({ url: options.redisUrl, deadlineMs: 10_000 });
  const writer = new RegistryWriter({ redis, record: record(options, incarnation, port), leaseMs: options.leaseMs ?? 3000 });
  await writer.registered;
  let killed = false;
  return {
    id: options.id,
    incarnation,
    address: `127.0.0.1:${port}`,
    get activeCalls() {
      return server.activeCalls;
    },
    get script() {
      return self.script;
    },
    set script(script) {
      self.script = script;
    },
    report: (state) => writer.update(state),
    leave: () => writer[Symbol.asyncDispose](),
    kill: async () => {
      killed = true;
      redis.client.disconnect();
      await server[Symbol.asyncDispose]();
      await writer[Symbol.asyncDispose]();
    },
    [Symbol.asyncDispose]: async () => {
      if (killed) return;
      await writer[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function* decode(
  options: FakeWorkerOptions,
  self: { script: FakeScript },
  commands: AsyncIterable<workerV1.DecodeCommand>,
  context: RpcContext,
): AsyncGenerator<workerV1.DecodeEvent> {
  const inbox = commands[Symbol.asyncIterator]();
  const opening = (await inbox.next()).value as workerV1.DecodeCommand | undefined;
  if (opening?.command?.$case !== 'reserve') throw new Error('the first command must be reserve');
  const { requestId, attempt, generation, local } = opening.command.value;
  if (generation === undefined) throw new Error('reserve has no generation');
  const call: FakeCall = { worker: options.id, requestId, attempt, generation, signal: context.signal };
  const note = (event: Omit<FakeEvent, 'worker' | 'requestId' | 'attempt'>): void => {
    options.fabric.events.push({ worker: options.id, requestId, attempt, ...event });
  };
  note({ what: 'reserve', generation, local });
  const recompute = Promise.withResolvers<'recompute'>();
  const firstSeen = new Set<number>();
  const stopped = new Set<number>();
  const readCommands = async (): Promise<void> => {
    for (let next = await inbox.next(); next.done !== true; next = await inbox.next()) {
      const { command } = next.value;
      if (command?.$case === 'recompute') {
        note({ what: 'recompute' });
        recompute.resolve('recompute');
      }
      if (command?.$case === 'firstToken') {
        const choice = command.value.token?.choice ?? 0;
        firstSeen.add(choice);
        note({ what: 'first_token', choice });
      }
      if (command?.$case === 'stopChoice') {
        stopped.add(command.value.choice);
        note({ what: 'stop_choice', choice: command.value.choice });
      }
    }
  };
  const commandsEnd = readCommands().catch(() => undefined);
  try {
    await self.script.onReserve?.(call);
    let outcome: workerV1.KvOutcome = KvOutcome.KV_OUTCOME_LOCAL;
    let prefilledTokens = generation.promptIds.length;
    let skipsFirst = false;
    if (local) yield { event: { $case: 'reserved', value: {} } };
    else {
      const ticket = fakeTicket(options);
      yield { event: { $case: 'ticket', value: ticket } };
      const how = await abortable(Promise.race([options.fabric.committed(ticket.transferId), recompute.promise]), context.signal);
      if (how === 'recompute') {
        outcome = KvOutcome.KV_OUTCOME_RECOMPUTED;
        skipsFirst = true;
      } else {
        outcome = KvOutcome.KV_OUTCOME_USED;
        prefilledTokens = 0;
        // The manifest's first token is given again: the router drops what it has seen.
      }
    }
    if (prefilledTokens > 0) {
      for (const value of promptScores(generation)) yield { event: { $case: 'promptScores', value } };
    }
    const bytes = outcome === KvOutcome.KV_OUTCOME_USED;
    yield {
      event: {
        $case: 'kvReady',
        value: {
          outcome,
          rawBytes: BigInt(bytes ? RAW_BYTES : 0),
          receivedBytes: BigInt(bytes ? SENT_BYTES : 0),
          prefilledTokens,
          prefillMs: 0,
          expertCalls: [],
          representation: bytes ? REPRESENTATION : undefined,
          convertMs: 0.25,
        },
      },
    };
    const running = choicesOf(generation).map((choice) => ({
      choice,
      position: choice.firstPosition + (skipsFirst && firstSeen.has(choice.index) ? 1 : 0),
      end: Math.min(answerOf(self.script, choice.index).length, choice.firstPosition + choice.maxTokens),
    }));
    // As a running batch does: one token of each in turn.
    for (let left = running; left.length > 0; left = left.filter((one) => one.position < one.end)) {
      for (const one of left) {
        const { choice, position } = one;
        if (stopped.has(choice.index)) one.position = one.end;
        if (one.position >= one.end) continue;
        await self.script.beforeToken?.(position, call, choice.index);
        context.signal.throwIfAborted();
        note({ what: 'token', position, choice: choice.index });
        yield { event: { $case: 'token', value: token(self.script, choice, position, call) } };
        one.position++;
      }
    }
    const generatedTokens = Math.max(...running.map(({ end }) => end));
    yield {
      event: {
        $case: 'finished',
        value: { reason: FinishReason.FINISH_REASON_LENGTH, generatedTokens, preemptions: 0, expertCalls: [] },
      },
    };
    if (generation.choices.length > 1) await commandsEnd;
  } finally {
    note({ what: 'decode ended' });
  }
}

async function* prefill(
  options: FakeWorkerOptions,
  self: { script: FakeScript },
  request: workerV1.PrefillRequest,
  context: RpcContext,
): AsyncGenerator<workerV1.PrefillEvent> {
  const { requestId, attempt, generation, ticket } = request;
  if (generation === undefined || ticket === undefined) throw new Error('generation or ticket is missing');
  const call: FakeCall = { worker: options.id, requestId, attempt, generation, signal: context.signal };
  options.fabric.events.push({ worker: options.id, requestId, attempt, what: 'prefill', generation });
  try {
    yield { event: { $case: 'admitted', value: { queuedTokensAhead: 0 } } };
    await self.script.onPrefill?.(call);
    yield { event: { $case: 'started', value: {} } };
    for (const value of promptScores(generation)) {
      await self.script.beforeScores?.(value.position, call);
      yield { event: { $case: 'promptScores', value } };
    }
    const firsts = choicesOf(generation)
      .filter(({ replayIds }) => replayIds.length === 0)
      .map((choice) => token(self.script, choice, choice.firstPosition, call));
    for (const value of firsts) yield { event: { $case: 'firstToken', value } };
    await self.script.beforeCommit?.(call);
    context.signal.throwIfAborted();
    options.fabric.commit(ticket.transferId, firsts[0]?.id);
    await self.script.afterCommit?.(call);
    yield { event: { $case: 'sent', value: { stats: stats() } } };
  } finally {
    options.fabric.events.push({ worker: options.id, requestId, attempt, what: 'prefill ended' });
  }
}

/** The answers that a generation asks for. */
function choicesOf({ choices, replayIds, maxTokens, firstPosition, sampling }: workerV1.Generation): workerV1.Choice[] {
  return choices.length > 0 ? choices : [{ index: 0, seed: sampling?.seed ?? 0n, replayIds, maxTokens, firstPosition }];
}

function answerOf(script: FakeScript, choice: number): readonly number[] {
  return script.answers?.[choice] ?? script.answer;
}

function token(script: FakeScript, choice: workerV1.Choice, position: number, call: FakeCall): workerV1.Token {
  const answer = answerOf(script, choice.index);
  const last = position === answer.length - 1;
  const cut = position === choice.firstPosition + choice.maxTokens - 1;
  const stop = script.endsWith === 'stop' ? FinishReason.FINISH_REASON_STOP : FinishReason.FINISH_REASON_LENGTH;
  return {
    attempt: call.attempt,
    position,
    id: answer[position] ?? 0,
    logprob: logprobAt(position),
    finishReason: last ? stop : cut ? FinishReason.FINISH_REASON_LENGTH : FinishReason.FINISH_REASON_UNSPECIFIED,
    logits: new Uint8Array(0),
    topLogprobs: Array.from({ length: call.generation.topLogprobs }, (_, rank) => ({ id: rank, logprob: -rank - 1 })),
    choice: choice.index,
  };
}

/** Scores of the prompt in two messages, when they are wanted. */
function promptScores({ promptIds, promptLogprobs: tops }: workerV1.Generation): workerV1.PromptScores[] {
  if (tops === undefined) return [];
  const scores = promptIds.slice(1).map((id, i) => ({
    id,
    logprob: promptLogprobAt(i + 1),
    topLogprobs: Array.from({ length: tops }, (_, rank) => ({ id: rank, logprob: -rank - 1 })),
  }));
  const middle = Math.ceil(scores.length / 2);
  return [
    { position: 1, tokens: scores.slice(0, middle) },
    { position: 1 + middle, tokens: scores.slice(middle) },
  ];
}

function fakeTicket(options: FakeWorkerOptions): kvV1.Ticket {
  return {
    transferId: new Uint8Array(randomBytes(16)),
    epoch: 1,
    workerId: options.id,
    incarnation: 'fabric',
    maxPayload: 1 << 20,
    maxPartBytes: 1 << 19,
    descriptor: undefined,
    fingerprint: undefined,
    objects: [],
    acceptedCodecs: [],
    acceptedDtypes: [],
    lossyAllowed: false,
    deadlineMs: 60_000,
    chip: 'cpu',
    tokens: 1,
  };
}

function record(options: FakeWorkerOptions, incarnation: string, port: number): WorkerRecord {
  const layers = [{ kind: 'latent' as const, rank: 32, ropeDim: 16 }];
  const made: Fingerprint = fingerprint({
    architecture: 'deepseek_v3',
    weightsHash: options.weights ?? 'w',
    tokenizerHash: 't',
    rope: {},
    layers,
  });
  return {
    version: 1,
    id: options.id,
    incarnation,
    role: options.role,
    model: options.model ?? MODEL,
    architecture: 'deepseek_v3',
    contextLength: options.contextLength ?? 512,
    vocabSize: 2048,
    eosTokenIds: [2],
    chip: 'cpu',
    emulated: false,
    fingerprint: made,
    descriptor: { version: 1, layers, storage: { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } } },
    address: `127.0.0.1:${port}`,
    observability: `127.0.0.1:${port}`,
    capacity: { totalPages: 1000, blockTokens: 16, maxSequences: options.maxSequences ?? 8 },
    startedAt: Date.now(),
    load: { running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 1000 },
    rates: { prefillTokensPerSecond: 0, decodeTokensPerSecond: 0 },
    draining: false,
  };
}
