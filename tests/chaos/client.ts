/** A client of the router that keeps what it received, also when the stream breaks. */
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import type { ClusterRouter } from '@causeway/testkit';

/** What a client has received of one answer. */
export interface Received {
  /** Empty over HTTP, which carries text only. */
  ids: number[];
  /** Messages that brought a token: over HTTP the chunks with a `content`, empty ones included. */
  pieces: number;
  text: string;
  finishReason: string | undefined;
  completionTokens: number | undefined;
  /** What became of the KV. */
  outcome: string | undefined;
  attempts: number | undefined;
  prefillWorker: string | undefined;
  decodeWorker: string | undefined;
  /** What ended the stream, when it was not the answer's end. */
  error: Error | undefined;
  ended: boolean;
}

export interface AnswerRequest {
  readonly api: 'grpc' | 'http';
  readonly prompt: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed: number;
  readonly requestId: string;
  readonly signal: AbortSignal;
  /** Default: `disaggregated`; `auto` leaves it to the router. */
  readonly placement?: 'disaggregated' | 'local' | 'auto';
  /** Called after everything that came. */
  readonly onReceived?: (received: Received) => void;
}

export interface RunningAnswer {
  readonly received: Received;
  /** Resolves when the stream has ended, well or not. */
  readonly done: Promise<Received>;
}

/** Asks for one answer, streamed. Never rejects: a failure is in what was received. */
export function startAnswer(router: Pick<ClusterRouter, 'grpc' | 'http'>, request: AnswerRequest): RunningAnswer {
  const received: Received = {
    ids: [],
    pieces: 0,
    text: '',
    finishReason: undefined,
    completionTokens: undefined,
    outcome: undefined,
    attempts: undefined,
    prefillWorker: undefined,
    decodeWorker: undefined,
    error: undefined,
    ended: false,
  };
  const run = request.api === 'grpc' ? overGrpc(router.grpc, request, received) : overHttp(router.http, request, received);
  const done = run
    .catch((error: unknown) => {
      received.error = error instanceof Error ? error : new Error(String(error));
    })
    .then(() => {
      received.ended = true;
      return received;
    });
  return { received, done };
}

function wish({ placement = 'disaggregated' }: AnswerRequest): 'disaggregated' | 'local' | undefined {
  return placement === 'auto' ? undefined : placement;
}

async function overGrpc(address: string, request: AnswerRequest, received: Received): Promise<void> {
  // A router that is stopped for a while must not be given up by its client.
  using channels = createChannelPool({ keepaliveTimeMs: 600_000 });
  const client = channels.client(inferenceV1.InferenceDefinition, address);
  const stream = client.generate(
    {
      input: { $case: 'messages', value: { messages: [{ role: 'user', content: request.prompt }] } },
      sampling: { temperature: request.temperature, seed: BigInt(request.seed) },
      maxTokens: request.maxTokens,
      placement: wish(request) ?? '',
    },
    { signal: request.signal, requestId: request.requestId },
  );
  for await (const message of stream) {
    received.ids.push(...message.tokenIds);
    received.pieces += message.tokenIds.length;
    received.text += message.text;
    if (message.usage?.kv !== undefined) {
      const { kv } = message.usage;
      received.completionTokens = message.usage.completionTokens;
      received.outcome = kv.outcome;
      received.attempts = kv.attempts;
      received.prefillWorker = kv.prefillWorker;
      received.decodeWorker = kv.decodeWorker;
    }
    if (message.finishReason !== '') received.finishReason = message.finishReason;
    request.onReceived?.(received);
  }
}

interface Chunk {
  choices?: { delta?: { content?: string }; finish_reason?: string | null }[];
  usage?: {
    completion_tokens: number;
    causeway?: { outcome: string; attempts: number; prefill_worker: string; decode_worker: string };
  } | null;
  error?: { message: string };
}

async function overHttp(address: string, request: AnswerRequest, received: Received): Promise<void> {
  const response = await fetch(`http://${address}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-causeway-request-id': request.requestId },
    body: JSON.stringify({
      model: 'tiny-moe',
      messages: [{ role: 'user', content: request.prompt }],
      max_tokens: request.maxTokens,
      temperature: request.temperature,
      seed: request.seed,
      stream: true,
      stream_options: { include_usage: true },
      causeway: { placement: wish(request) },
    }),
    signal: request.signal,
  });
  if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  let done = false;
  for await (const data of serverSentEvents(response.body)) {
    if (data === '[DONE]') done = true;
    else takeChunk(JSON.parse(data) as Chunk, received);
    request.onReceived?.(received);
  }
  if (!done) throw new Error('the stream ended without [DONE]');
}

function takeChunk(chunk: Chunk, received: Received): void {
  if (chunk.error !== undefined) throw new Error(chunk.error.message);
  for (const choice of chunk.choices ?? []) {
    if (choice.delta?.content !== undefined) received.pieces++;
    received.text += choice.delta?.content ?? '';
    received.finishReason = choice.finish_reason ?? received.finishReason;
  }
  const { usage } = chunk;
  if (usage?.causeway === undefined) return;
  received.completionTokens = usage.completion_tokens;
  received.outcome = usage.causeway.outcome;
  received.attempts = usage.causeway.attempts;
  received.prefillWorker = usage.causeway.prefill_worker;
  received.decodeWorker = usage.causeway.decode_worker;
}

async function* serverSentEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const bytes of body) {
    const events = (rest + decoder.decode(bytes, { stream: true })).split('\n\n');
    rest = events.pop() ?? '';
    for (const event of events) if (event.startsWith('data: ')) yield event.slice('data: '.length);
  }
}
