import { fail } from '@causeway/errors';
import { z } from 'zod';
import { completionLogprobs } from './logprobs-fields.ts';
import { parseWith, requireObject, wrongType } from './parse-body.ts';
import { generationFields, type GenerationOptions, toGenerationOptions } from './sampling-fields.ts';
import { badTokenId } from './token-ids.ts';
import { refuseUnsupported } from './unsupported.ts';

export type CompletionPrompt = { kind: 'text'; text: string } | { kind: 'tokens'; ids: readonly number[] };

export interface CompletionRequest {
  model: string;
  /** Half a surrogate pair in a text comes as U+FFFD. */
  prompt: CompletionPrompt;
  options: GenerationOptions;
}

const completionBody = z.object(generationFields);

/**
 * Validates the body of POST /v1/completions. The prompt is a string, a list of token ids, or a list with one of these.
 * @throws ServiceError `invalid_argument` naming the field: reasons `bad_request`, `bad_sampling`, `unsupported_parameter`,
 * `empty_prompt`, `invalid_token`. Whether ids are in the vocabulary is checked by whoever knows it.
 */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  const raw = requireObject(body);
  refuseUnsupported(raw);
  const parsed = parseWith(completionBody, raw);
  const options = toGenerationOptions(parsed, raw, completionLogprobs(raw));
  return { model: parsed.model, prompt: parsePrompt(raw['prompt'], 'prompt'), options };
}

function parsePrompt(prompt: unknown, field: string): CompletionPrompt {
  if (typeof prompt === 'string') {
    if (prompt === '') fail('invalid_argument', 'empty_prompt', `'${field}' is empty`, { field });
    return { kind: 'text', text: prompt.toWellFormed() };
  }
  if (!Array.isArray(prompt)) return wrongType(prompt ?? undefined, field, 'a string or a list of token ids');
  if (prompt.length === 0) fail('invalid_argument', 'empty_prompt', `'${field}' is empty`, { field });
  const first: unknown = prompt[0];
  if (field === 'prompt' && (typeof first === 'string' || Array.isArray(first))) {
    if (prompt.length > 1) {
      fail(
        'invalid_argument',
        'unsupported_parameter',
        `'prompt' holds ${prompt.length} prompts; one prompt per request is served`,
        { field },
      );
    }
    return parsePrompt(first, 'prompt[0]');
  }
  const bad = badTokenId(prompt);
  if (bad === undefined) return { kind: 'tokens', ids: prompt as readonly number[] };
  fail('invalid_argument', 'invalid_token', `'${field}[${bad}]' must be a token id: a whole number from 0`, {
    field: `${field}[${bad}]`,
  });
}
