/** The gRPC API: causeway.inference.v1.Inference. */
import { ServiceError } from '@causeway/errors';
import type { GenerationOptions, Usage } from '@causeway/openai';
import type { inferenceV1 } from '@causeway/proto';
import { type RpcContext, type RpcService, rpcService } from '@causeway/rpc';
import type { Logger } from '@causeway/telemetry';
import type { AnswerPiece } from '../answer/answer.ts';
import type { ApiKeys } from '../api-keys.ts';
import { openRequest, type RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import type { ModelRouters } from './model-routers.ts';
import { servedModels } from './models.ts';
import { RawInferenceDefinition } from './raw-inference.ts';
import { serve } from './serve.ts';
import { tokenized } from './tokenized.ts';

/** Binds the service to the router's models. */
export function inferenceService(routers: ModelRouters, keys: ApiKeys, log: Logger, forceSignal: AbortSignal): RpcService {
  const { first } = routers;
  const open = (call: RpcContext, method: string): RequestContext => {
    checkKey(call, keys, first);
    return openRequest({
      id: call.requestId,
      log,
      timeoutMs: Math.min(first.config.requestTimeoutMs, call.remainingMs()),
      signals: [call.signal, forceSignal],
      span: first.traces.begin(`causeway.inference.v1.Inference/${method}`, (name) => call.metadata.get(name), {
        'causeway.request_id': call.requestId,
      }),
    });
  };
  return rpcService(RawInferenceDefinition, {
    async *generate(body, call) {
      using ctx = open(call, 'Generate');
      const router = await routers.of(ctx, { kind: 'generate', body });
      let logprobs: GenerationOptions['logprobs'];
      for await (const event of serve(ctx, { kind: 'generate', body }, router)) {
        if (event.kind === 'accepted') ({ logprobs } = event.fields.options);
        else if (event.kind === 'prompt') continue;
        else if (event.kind === 'piece') {
          yield { ...pieceMessage(ctx.id, event.piece, logprobs !== undefined, router), choice: event.choice };
        } else {
          const { choice, reason, usage } = event;
          const last = usage === undefined ? undefined : usageMessage(usage);
          yield { ...EMPTY, requestId: ctx.id, choice, finishReason: reason, usage: last };
        }
      }
    },
    tokenize: async (body, call) => {
      using ctx = open(call, 'Tokenize');
      const source = { kind: 'tokenize', body } as const;
      return await tokenized(ctx, source, await routers.of(ctx, source));
    },
    listModels: async (_request, call) => {
      checkKey(call, keys, first);
      return { models: servedModels(routers.each).map((model) => ({ ...model })) };
    },
  });
}

/** @throws ServiceError `invalid_api_key`, counted */
function checkKey(call: RpcContext, keys: ApiKeys, router: RouterParts): void {
  try {
    keys.check(call.metadata.get('authorization'));
  } catch (error) {
    router.metrics.failed(ServiceError.from(error));
    throw error;
  }
}

const EMPTY: inferenceV1.GenerateResponse = {
  requestId: '',
  text: '',
  tokenIds: [],
  finishReason: '',
  usage: undefined,
  logprobs: [],
  reasoningContent: '',
  toolCalls: [],
  choice: 0,
};

function pieceMessage(
  requestId: string,
  piece: AnswerPiece,
  withLogprobs: boolean,
  { tokenizer }: RouterParts,
): inferenceV1.GenerateResponse {
  const message = { ...EMPTY, requestId, ...pieceText(piece), tokenIds: [piece.id] };
  if (!withLogprobs) return message;
  const named = (id: number, logprob: number, top: inferenceV1.TokenLogprob[]): inferenceV1.TokenLogprob => ({
    id,
    logprob,
    bytes: tokenizer.tokenBytes(id) ?? new Uint8Array(0),
    top,
  });
  const top = piece.topLogprobs.map(({ id, logprob }) => named(id, logprob, []));
  return { ...message, logprobs: [named(piece.id, piece.logprob, top)] };
}

/** The piece's text, told apart where the answer has parts. */
function pieceText({ text, parts }: AnswerPiece): Pick<inferenceV1.GenerateResponse, 'text' | 'reasoningContent' | 'toolCalls'> {
  if (parts === undefined) return { text, reasoningContent: '', toolCalls: [] };
  const joined = (kind: 'content' | 'reasoning'): string => parts.map((part) => (part.kind === kind ? part.text : '')).join('');
  const toolCalls = parts.flatMap((part): inferenceV1.ToolCallDelta[] => {
    if (part.kind === 'call') return [{ index: part.index, id: part.id, name: part.name, arguments: '' }];
    return part.kind === 'arguments' ? [{ index: part.index, id: '', name: '', arguments: part.text }] : [];
  });
  return { text: joined('content'), reasoningContent: joined('reasoning'), toolCalls };
}

function usageMessage(usage: Usage): inferenceV1.Usage {
  const { causeway: kv } = usage;
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    reasoningTokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
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
      expertCalls: Object.entries(kv.expert_calls ?? {}).map(([shard, calls]) => ({ shard, calls: BigInt(calls) })),
      prefillStorage: kv.prefill_storage,
      decodeStorage: kv.decode_storage,
      wireDtype: kv.wire_dtype,
      rounded: kv.rounded,
      convertMs: kv.convert_ms,
    },
  };
}
