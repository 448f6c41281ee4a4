import { fail } from '@causeway/errors';
import { wrongType } from './parse-body.ts';
import { badTokenId } from './token-ids.ts';

/** Most stop strings of a request: OpenAI's limit. */
export const MAX_STOP_STRINGS = 4;
/** Longest stop string, in UTF-16 units: what the router may have to hold back. */
export const MAX_STOP_LENGTH = 1024;
/** Most stop tokens of a request. */
export const MAX_STOP_TOKENS = 64;

/**
 * The field `stop`: nothing, one string, or a few.
 * @throws ServiceError `invalid_argument/bad_request` about the first one that cannot be searched for.
 */
export function stopStrings(stop: unknown): readonly string[] {
  if (stop === undefined || stop === null) return [];
  if (typeof stop === 'string') return [stopString(stop, 'stop')];
  if (!Array.isArray(stop)) return wrongType(stop, 'stop', 'a string or a list of strings');
  atMost(MAX_STOP_STRINGS, stop, 'stop');
  return stop.map((entry: unknown, index) =>
    typeof entry === 'string' ? stopString(entry, `stop[${index}]`) : wrongType(entry, `stop[${index}]`, 'a string'),
  );
}

/** Half a surrogate pair would match inside a character, and the rest of that character be no text. */
function stopString(text: string, field: string): string {
  const problem =
    text === ''
      ? 'must not be an empty string'
      : text.length > MAX_STOP_LENGTH
        ? `must be at most ${MAX_STOP_LENGTH} characters long`
        : text.isWellFormed()
          ? undefined
          : 'must be whole characters: it has half of a surrogate pair';
  if (problem === undefined) return text;
  fail('invalid_argument', 'bad_request', `'${field}' ${problem}`, { field });
}

/**
 * The field `stop_token_ids`, as in vLLM: any of these tokens ends the answer and is not part of its text.
 * @throws ServiceError `invalid_argument/bad_request`. Whether ids are in the vocabulary is checked by whoever knows it.
 */
export function stopTokenIds(ids: unknown): readonly number[] {
  if (ids === undefined || ids === null) return [];
  if (!Array.isArray(ids)) return wrongType(ids, 'stop_token_ids', 'a list of token ids');
  atMost(MAX_STOP_TOKENS, ids, 'stop_token_ids');
  const bad = badTokenId(ids);
  if (bad === undefined) return ids as readonly number[];
  return wrongType(ids[bad] ?? null, `stop_token_ids[${bad}]`, 'a token id: a whole number from 0');
}

function atMost(limit: number, list: readonly unknown[], field: string): void {
  if (list.length <= limit) return;
  fail('invalid_argument', 'bad_request', `'${field}' must have at most ${limit} entries`, { field });
}
