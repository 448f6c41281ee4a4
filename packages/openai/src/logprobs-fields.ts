import { fail } from '@causeway/errors';
import { wrongType } from './parse-body.ts';

/** Most of the likeliest tokens that chat answers carry at each position: OpenAI's limit. */
export const MAX_TOP_LOGPROBS = 20;
/** The same for completions. */
const MAX_COMPLETION_LOGPROBS = 5;

type Body = Readonly<Record<string, unknown>>;

/**
 * `logprobs` and `top_logprobs` of a chat request: how many of the likeliest tokens, undefined without log-probabilities.
 * @throws ServiceError `invalid_argument` naming the field
 */
export function chatLogprobs({ logprobs, top_logprobs: top }: Body): number | undefined {
  const wanted = logprobs ?? false;
  if (typeof wanted !== 'boolean') return wrongType(wanted, 'logprobs', 'true or false');
  const count = wholeNumber(top ?? 0, 'top_logprobs', MAX_TOP_LOGPROBS);
  if (wanted) return count;
  if (count === 0) return undefined;
  return fail('invalid_argument', 'bad_request', "'top_logprobs' is only allowed when 'logprobs' is true", {
    field: 'top_logprobs',
  });
}

/**
 * `logprobs` of a completion request, which is the number itself.
 * @throws ServiceError `invalid_argument` naming the field
 */
export function completionLogprobs({ logprobs, top_logprobs: top }: Body): number | undefined {
  if (top !== undefined && top !== null && top !== 0) {
    const message = "'top_logprobs' is not supported here: in completions 'logprobs' is the number of tokens";
    fail('invalid_argument', 'unsupported_parameter', message, { field: 'top_logprobs' });
  }
  if (logprobs === undefined || logprobs === null) return undefined;
  return wholeNumber(logprobs, 'logprobs', MAX_COMPLETION_LOGPROBS);
}

function wholeNumber(value: unknown, field: string, most: number): number {
  if (typeof value !== 'number') return wrongType(value, field, `a whole number from 0 to ${most}`);
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  return fail('invalid_argument', 'bad_request', `'${field}' must be a whole number from 0 to ${most}, not ${value}`, { field });
}
