import { randomUUID } from 'node:crypto';
import { AsyncQueue } from '@causeway/lifecycle';
import { workerV1 } from '@causeway/proto';
import type { ChannelPool } from '@causeway/rpc';

/** A generation as the worker protocol has it; omitted fields take greedy defaults. */
export type AttemptGeneration = Partial<Omit<workerV1.Generation, 'promptIds' | 'sampling'>> & {
  promptIds: readonly number[];
  sampling?: Partial<workerV1.Sampling>;
};

export interface AttemptOptions {
  channels: ChannelPool;
  model: string;
  /** gRPC addresses. Without `prefill` the decode worker prefills. */
  prefill?: string;
  decode: string;
  generation: AttemptGeneration;
  /** What the prefill worker has registered; left out by default, as for one that hands over all layers together. */
  computeOrder?: workerV1.Reserve['computeOrder'];
  requestId?: string;
  signal?: AbortSignal;
  /** Called with every event, in order of arrival. */
  onEvent?: (event: workerV1.PrefillEvent | workerV1.DecodeEvent) => void;
}

export interface AttemptResult {
  /** By position, each once. */
  tokens: workerV1.Token[];
  kv: workerV1.KvReady | undefined;
  sent: workerV1.Sent | undefined;
  finished: workerV1.Finished | undefined;
}

/** Fills in what a greedy generation leaves open. */
export function completeGeneration(generation: AttemptGeneration): workerV1.Generation {
  return {
    replayIds: [],
    maxTokens: 16,
    stopTokenIds: [],
    ignoreEos: false,
    minTokens: 0,
    firstPosition: 0,
    returnLogits: false,
    exactResume: false,
    topLogprobs: 0,
    constraint: undefined,
    promptLogprobs: undefined,
    choices: [],
    ...generation,
    promptIds: [...generation.promptIds],
    sampling: workerV1.Sampling.fromPartial({ topP: 1, ...generation.sampling }),
  };
}

/** Drives one attempt over a pair of workers, as a router does: reserve -> ticket -> prefill -> first token -> decode. */
export async function runAttempt(options: AttemptOptions): Promise<AttemptResult> {
  const requestId = options.requestId ?? randomUUID();
  const generation = completeGeneration(options.generation);
  const base = { requestId, attempt: 1, model: options.model, generation };
  const ended = new AbortController();
  const signal = options.signal === undefined ? ended.signal : AbortSignal.any([options.signal, ended.signal]);
  const call = { signal, requestId };
  const commands = new AsyncQueue<workerV1.DecodeCommand>(8);
  const result: AttemptResult = { tokens: [], kv: undefined, sent: undefined, finished: undefined };
  const place = (token: workerV1.Token): number => token.position - generation.firstPosition;
  const runPrefill = async (ticket: workerV1.PrefillRequest['ticket'], address: string): Promise<void> => {
    const client = options.channels.client(workerV1.PrefillDefinition, address);
    for await (const message of client.prefill({ ...base, ticket }, call)) {
      options.onEvent?.(message);
      if (message.event?.$case === 'firstToken') {
        // Over the decode worker's copy of it, which knows from the manifest only its id, and may come first.
        result.tokens[place(message.event.value)] = message.event.value;
        commands.tryPush({ command: { $case: 'firstToken', value: { token: message.event.value } } });
      }
      if (message.event?.$case === 'sent') result.sent = message.event.value;
    }
  };
  const { computeOrder } = options;
  commands.tryPush({ command: { $case: 'reserve', value: { ...base, local: options.prefill === undefined, computeOrder } } });
  let prefill: Promise<void> | undefined;
  try {
    const decoder = options.channels.client(workerV1.DecodeDefinition, options.decode);
    for await (const message of decoder.decode(commands, call)) {
      options.onEvent?.(message);
      const { event } = message;
      if (event?.$case === 'ticket' && options.prefill !== undefined) {
        prefill = runPrefill(event.value, options.prefill);
        // A failed prefill ends the attempt at once, not at the ticket's deadline.
        prefill.catch(() => ended.abort(new Error('the prefill failed')));
      }
      if (event?.$case === 'kvReady') result.kv = event.value;
      if (event?.$case === 'token') result.tokens[place(event.value)] ??= event.value;
      if (event?.$case !== 'finished') continue;
      result.finished = event.value;
      // With several choices the worker waits for the end of the commands.
      commands.close();
    }
    await prefill;
  } catch (error) {
    // The cause, not its echo on the other stream.
    await prefill;
    throw error;
  } finally {
    commands.close();
  }
  return result;
}
