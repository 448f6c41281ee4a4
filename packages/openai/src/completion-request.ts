import { fail } from '@causeway/errors';
import { z } from 'zod';
import { checkStreamOptions } from './chat-request.ts';
import { parseWith, requireObject } from './parse-body.ts';
import { generationFields, type GenerationOptions, toGenerationOptions } from './sampling-fields.ts';
import { refuseUnsupported } from './unsupported.ts';

/** Largest token id that the wire carries. */
const MAX_TOKEN_ID = 0xffff_ffff;

export type CompletionPrompt = { kind: 'text'; text: string } | { kind: 'tokens'; ids: readonly number[] };

export interface CompletionRequest {
  model: string;
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
  const options = toGenerationOptions(parsed);
  checkStreamOptions(raw, options);
  return { model: parsed.model, prompt: parsePrompt(raw['prompt'], 'prompt'), options };
}

function parsePrompt(prompt: unknown, field: string): CompletionPrompt {
  if (typeof prompt === 'string') {
    if (prompt === '') fail('invalid_argument', 'empty_prompt', `'${field}' is empty`, { field });
    return { kind: 'text', text: prompt };
  }
  if (prompt === undefined || prompt === null) {
    fail('invalid_argument', 'bad_request', "'prompt' is required: a string or a list of token ids", { field });
  }
  if (!Array.isArray(prompt)) {
    fail('invalid_argument', 'bad_request', `'${field}' must be a string or a list of token ids`, { field });
  }
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
  return { kind: 'tokens', ids: tokenIds(prompt, field) };
}

/** A plain loop: a schema would make an object per id. */
function tokenIds(values: readonly unknown[], field: string): readonly number[] {
  const bad = values.findIndex((id) => typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > MAX_TOKEN_ID);
  if (bad === -1) return values as readonly number[];
  fail('invalid_argument', 'invalid_token', `'${field}[${bad}]' must be a token id: a whole number from 0`, {
    field: `${field}[${bad}]`,
  });
}
