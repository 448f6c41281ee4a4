import { randomBytes } from 'node:crypto';
import { Answer } from './answer/answer.ts';
import { answerText } from './answer/answer-text.ts';
import { checkCalls, checkLength, checkRequest, type ServedLimits, servedContext } from './request/checks.ts';
import { readRequest } from './request/read-request.ts';
import { renderOptions, type RequestResult, tokenizeResponse } from './request/request-job.ts';
import type { RequestFields, RequestKind, TokensKind } from './request/request.ts';
import type { RequestContext } from './request-context.ts';
import type { RouterParts } from './router-parts.ts';
import { nextTurn } from './turn.ts';
import { servedContext as contextOf } from './workers/directory.ts';

/** Bytes read and validated on the event loop: at most 0.1 µs each, so 0.4 ms. Larger requests go to a thread whole. */
export const INLINE_REQUEST_BYTES = 4096;

/** A request as it came. */
export interface RequestSource {
  readonly kind: RequestKind;
  readonly body: Uint8Array;
}

/** A request with its prompt's token ids, ready to be answered. */
export interface Prompted {
  readonly fields: RequestFields;
  readonly ids: ArrayLike<number>;
  readonly limits: ServedLimits;
}

/**
 * Reads, checks and tokenizes a request; what takes long is done off the event loop.
 * @throws ServiceError `bad_json`, `bad_request` and their kin naming the field; `unknown_model`, `empty_prompt`, `prompt_too_long`,
 * `invalid_token`, `no_workers`, `unsupported_parameter` for tools whose calls could not be told, or what the chat template refuses
 */
export async function readPrompt(
  ctx: RequestContext,
  source: RequestSource,
  router: Pick<RouterParts, 'model' | 'tokenizer' | 'directory' | 'output'>,
): Promise<Prompted> {
  const limits = limitsNow(router);
  const { fields, ids } = await promptOf(ctx, source, limits, router);
  checkCalls(fields.output, router.output);
  return { fields, ids, limits };
}

/** Answers a request about tokens: the bytes of its response. Fails as `readPrompt` does, but a text may be longer than the context. */
export async function tokenizePrompt(
  ctx: RequestContext,
  source: { readonly kind: TokensKind; readonly body: Uint8Array },
  router: Pick<RouterParts, 'model' | 'tokenizer' | 'directory'>,
): Promise<Uint8Array> {
  const { ids, response } = await promptOf(ctx, source, limitsNow(router), router);
  return response ?? tokenizeResponse(ids);
}

type Read = Pick<RequestResult, 'fields' | 'response'> & { readonly ids: ArrayLike<number> };

async function promptOf(
  ctx: RequestContext,
  { kind, body }: RequestSource,
  limits: ServedLimits,
  { tokenizer }: Pick<RouterParts, 'tokenizer'>,
): Promise<Read> {
  const inline = body.byteLength <= INLINE_REQUEST_BYTES && kind !== 'tokenize_http' && kind !== 'detokenize_http';
  if (!inline) return tokenizer.request({ kind, body: ownBuffer(body), limits }, ctx.signal);
  // Many clients may ask in one turn of the event loop; each request takes up to a few milliseconds of it.
  await nextTurn();
  const request = readRequest(kind, body);
  checkRequest(request, limits);
  const { fields, prompt } = request;
  const ids =
    prompt.kind === 'tokens'
      ? prompt.ids
      : prompt.kind === 'text'
        ? await tokenizer.encode(prompt.text, ctx.signal)
        : await tokenizer.encodeChat(prompt.messages, renderOptions(prompt.template), ctx.signal);
  checkLength(ids.length, fields, limits);
  return { fields, ids, response: undefined };
}

/** The bytes in a buffer of their own, which can be handed to a thread. */
function ownBuffer(body: Uint8Array): Uint8Array {
  const whole = body.byteLength === body.buffer.byteLength && body.buffer instanceof ArrayBuffer;
  return whole ? body : new Uint8Array(body);
}

function limitsNow({ model, tokenizer, directory }: Pick<RouterParts, 'model' | 'tokenizer' | 'directory'>): ServedLimits {
  return { model, context: contextOf(directory.workers(), model), vocabSize: tokenizer.vocabSize };
}

/** Fixes what every attempt at this answer shares: limits by the context length, the seed, the detokenizer. */
export function beginAnswer({ fields, ids, limits }: Prompted, router: RouterParts): Answer {
  const { options } = fields;
  const left = servedContext(limits) - ids.length;
  return new Answer({
    model: router.model,
    promptIds: Array.from(ids),
    maxTokens: Math.min(options.maxTokens ?? router.config.defaultMaxTokens ?? left, left),
    sampling: {
      temperature: options.temperature,
      topP: options.topP,
      topK: options.topK,
      seed: options.seed ?? randomBytes(8).readBigUInt64LE(),
      minP: options.minP,
      repetitionPenalty: options.repetitionPenalty,
      presencePenalty: options.presencePenalty,
      frequencyPenalty: options.frequencyPenalty,
      logitBias: [...options.logitBias],
    },
    logprobs: options.logprobs,
    stop: options.stop,
    stopTokenIds: options.stopTokenIds,
    ignoreEos: options.ignoreEos,
    placement: options.placement,
    ...answerText(fields.output, ids, router),
  });
}
