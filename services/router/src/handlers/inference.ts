/** The gRPC API: causeway.inference.v1.Inference. */
import { fail } from '@causeway/errors';
import { type ChatMessage, MAX_MESSAGES, MAX_STOP_LENGTH, MAX_STOP_STRINGS, type Usage } from '@causeway/openai';
import { inferenceV1 } from '@causeway/proto';
import { type RpcContext, type RpcService, rpcService } from '@causeway/rpc';
import type { Logger } from '@causeway/telemetry';
import type { GenerateInput, PromptInput } from '../prompt.ts';
import { tokenize } from '../prompt.ts';
import { openRequest, type RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { servedModels } from './models.ts';
import { serve } from './serve.ts';

/** Binds the service to the router. */
export function inferenceService(router: RouterParts, log: Logger, forceSignal: AbortSignal): RpcService {
  const open = (call: RpcContext): RequestContext =>
    openRequest({
      id: call.requestId,
      log,
      timeoutMs: Math.min(router.config.requestTimeoutMs, call.remainingMs()),
      signals: [call.signal, forceSignal],
    });
  return rpcService(inferenceV1.InferenceDefinition, {
    async *generate(request, call) {
      using ctx = open(call);
      for await (const event of serve(ctx, generateInput(request), router)) {
        yield event.kind === 'piece'
          ? response(ctx.id, event.piece.text, [event.piece.id])
          : { ...response(ctx.id, '', []), finishReason: event.reason, usage: usageMessage(event.usage) };
      }
    },
    tokenize: async (request, call) => {
      using ctx = open(call);
      const { input } = request;
      if (input === undefined)
        fail('invalid_argument', 'empty_prompt', 'input is missing: give messages or text', { field: 'input' });
      const prompt: PromptInput =
        input.$case === 'text' ? { kind: 'text', text: input.value } : { kind: 'chat', messages: chatMessages(input.value) };
      return { ids: Array.from(await tokenize(ctx, { model: request.model || undefined, prompt }, router)) };
    },
    listModels: () => Promise.resolve({ models: servedModels(router).map((model) => ({ ...model })) }),
  });
}

function response(requestId: string, text: string, tokenIds: number[]): inferenceV1.GenerateResponse {
  return { requestId, text, tokenIds, finishReason: '', usage: undefined };
}

/** @throws ServiceError `invalid_argument` naming the field. */
function generateInput(request: inferenceV1.GenerateRequest): GenerateInput {
  const { sampling } = request;
  return {
    model: request.model || undefined,
    prompt: promptInput(request.input),
    maxTokens: request.maxTokens || undefined,
    temperature: inRange(sampling?.temperature ?? 1, 'sampling.temperature', (t) => t >= 0 && t <= 2, 'from 0 to 2'),
    topP: inRange(sampling?.topP ?? 1, 'sampling.top_p', (p) => p > 0 && p <= 1, 'above 0, at most 1'),
    topK: sampling?.topK ?? 0,
    seed: sampling?.seed,
    stop: stopStrings(request.stop),
    placement: placement(request.placement),
  };
}

function promptInput(input: inferenceV1.GenerateRequest['input']): PromptInput {
  switch (input?.$case) {
    case 'messages':
      return { kind: 'chat', messages: chatMessages(input.value) };
    case 'prompt':
      if (input.value === '') fail('invalid_argument', 'empty_prompt', 'prompt is empty', { field: 'prompt' });
      return { kind: 'text', text: input.value };
    case 'tokenIds':
      return { kind: 'tokens', ids: input.value.ids };
    case undefined:
      return fail('invalid_argument', 'empty_prompt', 'input is missing: give messages, prompt or token_ids', { field: 'input' });
  }
}

function chatMessages({ messages }: inferenceV1.Messages): ChatMessage[] {
  if (messages.length === 0) fail('invalid_argument', 'empty_prompt', 'messages has no message', { field: 'messages' });
  if (messages.length > MAX_MESSAGES) {
    fail('invalid_argument', 'bad_request', `messages has ${messages.length} entries; at most ${MAX_MESSAGES} are taken`, {
      field: 'messages',
    });
  }
  return messages.map(({ role, content }, index) => {
    const known = role === 'developer' ? 'system' : role;
    if (known === 'system' || known === 'user' || known === 'assistant') return { role: known, content };
    return fail(
      'invalid_argument',
      'bad_request',
      `role ${JSON.stringify(role.slice(0, 40))} is not system, developer, user or assistant`,
      {
        field: `messages[${index}].role`,
      },
    );
  });
}

function inRange(value: number, field: string, fits: (value: number) => boolean, range: string): number {
  if (fits(value)) return value;
  fail('invalid_argument', 'bad_sampling', `${field} must be ${range}, not ${value}`, { field });
}

function stopStrings(stop: readonly string[]): readonly string[] {
  if (stop.length > MAX_STOP_STRINGS) {
    fail('invalid_argument', 'bad_request', `stop has ${stop.length} entries; at most ${MAX_STOP_STRINGS} are taken`, {
      field: 'stop',
    });
  }
  const bad = stop.findIndex((text) => text === '' || text.length > MAX_STOP_LENGTH);
  if (bad === -1) return stop;
  fail('invalid_argument', 'bad_request', `stop[${bad}] must have 1 to ${MAX_STOP_LENGTH} characters`, { field: `stop[${bad}]` });
}

function placement(value: string): GenerateInput['placement'] {
  if (value === '') return undefined;
  if (value === 'local' || value === 'disaggregated') return value;
  fail(
    'invalid_argument',
    'bad_request',
    `placement must be "", "disaggregated" or "local", not ${JSON.stringify(value.slice(0, 40))}`,
    {
      field: 'placement',
    },
  );
}

function usageMessage(usage: Usage): inferenceV1.Usage {
  const { causeway: kv } = usage;
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    kv: {
      outcome: kv.outcome,
      bytesRaw: BigInt(kv.bytes_raw),
      bytesSent: BigInt(kv.bytes_sent),
      codec: kv.codec,
      transferMs: kv.transfer_ms,
      prefillMs: kv.prefill_ms,
      queueMs: kv.queue_ms,
      ttftMs: kv.ttft_ms,
      handoffGapMs: kv.handoff_gap_ms,
      prefillWorker: kv.prefill_worker,
      prefillChip: kv.prefill_chip,
      decodeWorker: kv.decode_worker,
      decodeChip: kv.decode_chip,
      attempts: kv.attempts,
      preemptions: kv.preemptions,
    },
  };
}
