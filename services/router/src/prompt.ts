import { randomBytes } from 'node:crypto';
import { Answer } from './answer/answer.ts';
import { answerText } from './answer/answer-text.ts';
import { Choices, choiceSeed } from './answer/choices.ts';
import { PromptScores } from './answer/prompt-scores.ts';
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

/** One prompt of a request. */
export interface PromptTokens {
  readonly ids: ArrayLike<number>;
  /** What comes before the answer when it is wanted there (`echo`), else empty. */
  readonly echo: string;
}

/** A request with its prompts' token ids, ready to be answered. */
export interface Prompted {
  readonly fields: RequestFields;
  /** At least one. */
  readonly prompts: readonly PromptTokens[];
  readonly limits: ServedLimits;
}

/**
 * Reads, checks and tokenizes a request; what takes long is done off the event loop.
 * @throws ServiceError `bad_json`, `bad_request` and their kin naming the field; `unknown_model`, `empty_prompt`, `prompt_too_long`,
 * `invalid_token`, `no_workers`, `unsupported_parameter` for tools whose calls could not be told, or what the chat template refuses
 */
export async function readPrompts(
  ctx: RequestContext,
  source: RequestSource,
  router: Pick<RouterParts, 'model' | 'tokenizer' | 'directory' | 'output'>,
): Promise<Prompted> {
  const limits = limitsNow(router);
  const { fields, prompts } = await promptsOf(ctx, source, limits, router);
  checkCalls(fields.output, router.output);
  return { fields, prompts, limits };
}

/** Answers a request about tokens: the bytes of its response. Fails as `readPrompts` does, but a text may be longer than the context. */
export async function tokenizePrompt(
  ctx: RequestContext,
  source: { readonly kind: TokensKind; readonly body: Uint8Array },
  router: Pick<RouterParts, 'model' | 'tokenizer' | 'directory'>,
): Promise<Uint8Array> {
  const { prompts, response } = await promptsOf(ctx, source, limitsNow(router), router);
  return response ?? tokenizeResponse(prompts[0]?.ids ?? []);
}

type Read = Pick<RequestResult, 'fields' | 'response'> & { readonly prompts: readonly PromptTokens[] };

async function promptsOf(
  ctx: RequestContext,
  { kind, body }: RequestSource,
  limits: ServedLimits,
  { tokenizer }: Pick<RouterParts, 'tokenizer'>,
): Promise<Read> {
  const inThread = (): Promise<Read> => tokenizer.request({ kind, body: ownBuffer(body), limits }, ctx.signal);
  const inline = body.byteLength <= INLINE_REQUEST_BYTES && kind !== 'tokenize_http' && kind !== 'detokenize_http';
  if (!inline) return inThread();
  // Many clients may ask in one turn of the event loop; each request takes up to a few milliseconds of it.
  await nextTurn();
  const request = readRequest(kind, body);
  const { fields, prompts } = request;
  const [prompt] = prompts;
  // Several prompts, ids to be turned into text, a format to be compiled: they are more than one turn's work.
  const { echo, format } = fields.options;
  if (prompt === undefined || prompts.length > 1 || echo || format !== undefined) return inThread();
  checkRequest(request, limits);
  const ids =
    prompt.kind === 'tokens'
      ? prompt.ids
      : prompt.kind === 'text'
        ? await tokenizer.encode(prompt.text, ctx.signal)
        : await tokenizer.encodeChat(prompt.messages, renderOptions(prompt.template), ctx.signal);
  checkLength(ids.length, fields, limits);
  return { fields, prompts: [{ ids, echo: '' }], response: undefined };
}

/** The bytes in a buffer of their own, which can be handed to a thread. */
function ownBuffer(body: Uint8Array): Uint8Array {
  const whole = body.byteLength === body.buffer.byteLength && body.buffer instanceof ArrayBuffer;
  return whole ? body : new Uint8Array(body);
}

function limitsNow({ model, tokenizer, directory }: Pick<RouterParts, 'model' | 'tokenizer' | 'directory'>): ServedLimits {
  return { model, context: contextOf(directory.workers(), model), vocabSize: tokenizer.vocabSize };
}

/** Fixes what every attempt at these answers shares: limits by the context length, seeds, detokenizers. */
export function beginChoices(
  { fields, limits }: Pick<Prompted, 'fields' | 'limits'>,
  { ids }: PromptTokens,
  seed: bigint,
  router: RouterParts,
): Choices {
  const { options } = fields;
  const left = servedContext(limits) - ids.length;
  const promptIds = Array.from(ids);
  const answer = (choice: number): Answer =>
    new Answer({
      model: router.model,
      promptIds,
      maxTokens: Math.min(options.maxTokens ?? router.config.defaultMaxTokens ?? left, left),
      sampling: {
        temperature: options.temperature,
        topP: options.topP,
        topK: options.topK,
        seed: choiceSeed(seed, choice),
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
      minTokens: options.minTokens,
      placement: options.placement,
      ...answerText(fields.output, options.format?.constraint, ids, router),
    });
  const more = Array.from({ length: options.n - 1 }, (_, index) => answer(index + 1));
  const scores = options.echo && options.logprobs !== undefined ? new PromptScores(ids.length, options.logprobs) : undefined;
  return new Choices([answer(0), ...more], scores);
}

/** The request's own seed, or one of chance: every attempt draws the same numbers. */
export function seedOf({ options }: RequestFields): bigint {
  return options.seed ?? randomBytes(8).readBigUInt64LE();
}
