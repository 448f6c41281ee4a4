/** The gRPC API: causeway.inference.v1.Inference. */
import type { Usage } from '@causeway/openai';
import type { inferenceV1 } from '@causeway/proto';
import { type RpcContext, type RpcService, rpcService } from '@causeway/rpc';
import type { Logger } from '@causeway/telemetry';
import { tokenizePrompt } from '../prompt.ts';
import { openRequest, type RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { servedModels } from './models.ts';
import { RawInferenceDefinition } from './raw-inference.ts';
import { failed, serve } from './serve.ts';

/** Binds the service to the router. */
export function inferenceService(router: RouterParts, log: Logger, forceSignal: AbortSignal): RpcService {
  const open = (call: RpcContext): RequestContext =>
    openRequest({
      id: call.requestId,
      log,
      timeoutMs: Math.min(router.config.requestTimeoutMs, call.remainingMs()),
      signals: [call.signal, forceSignal],
    });
  return rpcService(RawInferenceDefinition, {
    async *generate(body, call) {
      using ctx = open(call);
      for await (const event of serve(ctx, { kind: 'generate', body }, router)) {
        if (event.kind === 'piece') yield response(ctx.id, event.piece.text, [event.piece.id]);
        if (event.kind === 'finished')
          yield { ...response(ctx.id, '', []), finishReason: event.reason, usage: usageMessage(event.usage) };
      }
    },
    tokenize: async (body, call) => {
      using ctx = open(call);
      return await tokenized(ctx, body, router);
    },
    listModels: () => Promise.resolve({ models: servedModels(router).map((model) => ({ ...model })) }),
  });
}

/** Tokenizing takes a place as an answer does: the threads are the same. */
async function tokenized(ctx: RequestContext, body: Uint8Array, router: RouterParts): Promise<Uint8Array> {
  try {
    using _admitted = router.admission.admit();
    const ids = await tokenizePrompt(ctx, body, router);
    router.metrics.tokenized();
    return ids;
  } catch (thrown) {
    throw failed(ctx, ctx.signal.aborted ? ctx.signal.reason : thrown, router);
  }
}

function response(requestId: string, text: string, tokenIds: number[]): inferenceV1.GenerateResponse {
  return { requestId, text, tokenIds, finishReason: '', usage: undefined };
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
