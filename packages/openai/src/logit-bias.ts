import { fail } from '@causeway/errors';
import { wrongType } from './parse-body.ts';
import { badTokenId } from './token-ids.ts';

/** Most entries of a bias map. */
export const MAX_LOGIT_BIAS = 1024;

/** What is added to a token's logit. */
export interface LogitBias {
  id: number;
  bias: number;
}

const TOKEN_ID = /^(0|[1-9][0-9]{0,9})$/;

/**
 * The field `logit_bias`: token ids, as the keys of an object, with a number from -100 to 100 each.
 * @throws ServiceError `bad_request`, `invalid_token`, `bad_sampling`. Whether ids are in the vocabulary is checked by whoever knows it.
 */
export function logitBias(map: unknown): readonly LogitBias[] {
  if (map === undefined || map === null) return [];
  if (typeof map !== 'object' || Array.isArray(map)) return wrongType(map, 'logit_bias', 'an object such as {"50256": -100}');
  const entries = Object.entries(map);
  if (entries.length > MAX_LOGIT_BIAS) {
    const message = `'logit_bias' has ${entries.length} entries; at most ${MAX_LOGIT_BIAS} are taken`;
    fail('invalid_argument', 'bad_request', message, { field: 'logit_bias' });
  }
  return entries.map(([key, bias]: [string, unknown]) => {
    const id = Number(key);
    if (!TOKEN_ID.test(key) || badTokenId([id]) !== undefined) {
      const message = `'logit_bias' has the key ${JSON.stringify(key.slice(0, 40))}; its keys must be token ids: whole numbers from 0`;
      fail('invalid_argument', 'invalid_token', message, { field: 'logit_bias' });
    }
    const field = `logit_bias.${key}`;
    if (typeof bias !== 'number') return wrongType(bias, field, 'a number from -100 to 100');
    if (bias >= -100 && bias <= 100) return { id, bias };
    return fail('invalid_argument', 'bad_sampling', `'${field}' must be a number from -100 to 100, not ${bias}`, { field });
  });
}
