import { fail } from '@causeway/errors';
import { z } from 'zod';
import { completionLogprobs } from './logprobs-fields.ts';
import { parseWith, requireObject, wrongType } from './parse-body.ts';
import { generationFields, type GenerationOptions, toGenerationOptions } from './sampling-fields.ts';
import { badTokenId } from './token-ids.ts';
import { refuseUnsupported } from './unsupported.ts';

export type CompletionPrompt = { kind: 'text'; text: string } | { kind: 'tokens'; ids: readonly number[] };

/** Most prompts of one request. */
export const MAX_PROMPTS = 64;

export interface CompletionRequest {
  model: string;
  /** At least one. Half a surrogate pair in a text comes as U+FFFD. */
  prompts: readonly CompletionPrompt[];
  options: GenerationOptions;
}

const completionBody = z.object({
  ...generationFields,
  /** 0 is for `echo`: the prompt alone. */
  max_tokens: z
    .number('must be a whole number of tokens')
    .int('must be a whole number of tokens')
    .min(0, 'must be at least 1, or 0 with echo')
    .nullable()
    .optional(),
  echo: z.boolean('must be true or false').nullable().optional(),
});

/**
 * Validates the body of POST /v1/completions. The prompt is a string, a list of token ids, or a list of such prompts.
 * @throws ServiceError `invalid_argument` naming the field: reasons `bad_request`, `bad_sampling`, `unsupported_parameter`,
 * `empty_prompt`, `invalid_token`. Whether ids are in the vocabulary is checked by whoever knows it.
 */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  const raw = requireObject(body);
  refuseUnsupported(raw, ['echo']);
  const parsed = parseWith(completionBody, raw);
  const echo = parsed.echo ?? false;
  const logprobs = completionLogprobs(raw);
  const options = { ...toGenerationOptions(parsed, raw, logprobs), echo };
  if (options.maxTokens === 0 && !echo) {
    fail('invalid_argument', 'bad_request', "'max_tokens' must be at least 1, or 0 with echo", { field: 'max_tokens' });
  }
  return { model: parsed.model, prompts: parsePrompts(raw['prompt']), options };
}

function parsePrompts(prompt: unknown): CompletionPrompt[] {
  if (!Array.isArray(prompt) || (typeof prompt[0] !== 'string' && !Array.isArray(prompt[0])))
    return [parsePrompt(prompt, 'prompt')];
  if (prompt.length > MAX_PROMPTS) {
    const message = `'prompt' holds ${prompt.length} prompts; at most ${MAX_PROMPTS} are taken in one request`;
    fail('invalid_argument', 'bad_request', message, { field: 'prompt' });
  }
  return prompt.map((one: unknown, index) => parsePrompt(one, `prompt[${index}]`));
}

function parsePrompt(prompt: unknown, field: string): CompletionPrompt {
  if (typeof prompt === 'string') {
    if (prompt === '') fail('invalid_argument', 'empty_prompt', `'${field}' is empty`, { field });
    return { kind: 'text', text: prompt.toWellFormed() };
  }
  if (!Array.isArray(prompt)) return wrongType(prompt ?? undefined, field, 'a string or a list of token ids');
  if (prompt.length === 0) fail('invalid_argument', 'empty_prompt', `'${field}' is empty`, { field });
  const bad = badTokenId(prompt);
  if (bad === undefined) return { kind: 'tokens', ids: prompt as readonly number[] };
  fail('invalid_argument', 'invalid_token', `'${field}[${bad}]' must be a token id: a whole number from 0`, {
    field: `${field}[${bad}]`,
  });
}
