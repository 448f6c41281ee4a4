import { fail } from '@causeway/errors';
import type { Generation, Sampling, SequencePages } from './types.ts';

/** Most tokens whose log-probabilities come with a token. */
export const MAX_TOP_LOGPROBS = 20;
/** Most tokens with a bias. */
const MAX_LOGIT_BIAS = 1024;

/** Limits that a generation is checked against. */
export interface GenerationLimits {
  vocabSize: number;
  /** Tokens of prompt and answer at most. */
  maxContext: number;
}

/**
 * Checks a generation before anything is computed for it.
 * @throws ServiceError `invalid_argument` with reason `empty_prompt`, `invalid_token`, `prompt_too_long`, `bad_sampling` or
 *   `bad_request`, naming the field and the limit.
 */
export function checkGeneration(generation: Generation, limits: GenerationLimits): void {
  const { promptIds, replayIds, maxTokens, firstPosition, stopTokenIds, minTokens = 0 } = generation;
  const { topLogprobs = 0, promptLogprobs = 0 } = generation;
  if (promptIds.length === 0) fail('invalid_argument', 'empty_prompt', 'the prompt has no tokens', { field: 'prompt' });
  checkIds(promptIds, limits, replayIds.length);
  checkIds(replayIds, limits, promptIds.length);
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 1) {
    fail('invalid_argument', 'bad_request', `max_tokens is ${maxTokens}; it must be a positive integer`, { field: 'max_tokens' });
  }
  if (!Number.isSafeInteger(firstPosition) || firstPosition < 0) {
    fail('invalid_argument', 'bad_request', `the first position is ${firstPosition}; it must be an integer, 0 or more`);
  }
  if (!Number.isSafeInteger(minTokens) || minTokens < 0) {
    fail('invalid_argument', 'bad_request', `min_tokens is ${minTokens}; it must be an integer, 0 or more`, {
      field: 'min_tokens',
    });
  }
  if (minTokens > 0 && generation.constraint !== undefined) {
    const message = "'min_tokens' can't stand beside a response format: the document ends the answer";
    fail('invalid_argument', 'bad_request', message, { field: 'min_tokens' });
  }
  if (stopTokenIds.some((id) => !Number.isInteger(id) || id < 0)) {
    fail('invalid_argument', 'invalid_token', 'stop token ids must be integers, 0 or more', { field: 'stop_token_ids' });
  }
  for (const [field, count] of [
    ['top_logprobs', topLogprobs],
    ['prompt_logprobs', promptLogprobs],
  ] as const) {
    if (Number.isSafeInteger(count) && count >= 0 && count <= MAX_TOP_LOGPROBS) continue;
    fail('invalid_argument', 'bad_request', `${field} is ${count}; it must be from 0 to ${MAX_TOP_LOGPROBS}`, { field });
  }
  checkSampling(generation.sampling, limits);
}

/**
 * Checks token ids against vocabulary and context; `others` tokens stand before or after them. Replayed ids may be none.
 * @throws ServiceError as `checkGeneration`.
 */
export function checkIds(ids: Uint32Array, limits: GenerationLimits, others = 0): void {
  const length = ids.length + others;
  if (length === 0) fail('invalid_argument', 'empty_prompt', 'the prompt has no tokens', { field: 'prompt' });
  if (length > limits.maxContext) {
    const message = `the prompt has ${length} tokens; this model's context here is ${limits.maxContext}`;
    fail('invalid_argument', 'prompt_too_long', message, { field: 'prompt' });
  }
  const bad = ids.findIndex((id) => id >= limits.vocabSize);
  if (bad < 0) return;
  fail(
    'invalid_argument',
    'invalid_token',
    `token ${bad} of the prompt is ${ids[bad]}; the vocabulary has ${limits.vocabSize} tokens`,
    {
      field: 'prompt',
    },
  );
}

function checkSampling(sampling: Sampling, { vocabSize }: GenerationLimits): void {
  const { temperature, topP, topK, seed, minP = 0, repetitionPenalty = 1, logitBias = [] } = sampling;
  const bad = (field: string, value: unknown, rule: string): never =>
    fail('invalid_argument', 'bad_sampling', `${field} is ${String(value)}; it must be ${rule}`, { field });
  if (!(temperature >= 0 && temperature <= 100)) bad('temperature', temperature, 'between 0 and 100');
  if (!(topP > 0 && topP <= 1)) bad('top_p', topP, 'above 0 and at most 1');
  if (!Number.isSafeInteger(topK) || topK < 0) bad('top_k', topK, 'an integer, 0 (no limit) or more');
  if (typeof seed !== 'bigint') bad('seed', seed, 'an integer');
  if (!(minP >= 0 && minP <= 1)) bad('min_p', minP, 'between 0 and 1');
  if (!(repetitionPenalty >= 0.01 && repetitionPenalty <= 100)) {
    bad('repetition_penalty', repetitionPenalty, 'between 0.01 and 100');
  }
  for (const [field, value = 0] of [
    ['presence_penalty', sampling.presencePenalty],
    ['frequency_penalty', sampling.frequencyPenalty],
  ] as const) {
    if (!(value >= -2 && value <= 2)) bad(field, value, 'between -2 and 2');
  }
  if (logitBias.length > MAX_LOGIT_BIAS) bad('logit_bias', logitBias.length, `at most ${MAX_LOGIT_BIAS} tokens`);
  for (const { id, bias } of logitBias) {
    if (!(bias >= -100 && bias <= 100)) bad('logit_bias', bias, 'between -100 and 100');
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    fail('invalid_argument', 'invalid_token', `logit_bias names token ${id}; the vocabulary has ${vocabSize} tokens`, {
      field: 'logit_bias',
    });
  }
}

/** @throws ServiceError `invalid_argument` when `pages` have no room for `tokens` tokens. */
export function checkRoom(pages: SequencePages, tokens: number, blockTokens: number): void {
  if (pages.pages.length * blockTokens >= tokens) return;
  const needed = Math.ceil(tokens / blockTokens);
  fail('invalid_argument', 'internal', `${tokens} tokens need ${needed} pages and ${pages.pages.length} are reserved`);
}
