import { fail } from '@causeway/errors';
import type { ConstrainedText, TokenMask } from '@causeway/grammar';
import type { EngineParts } from './engine-parts.ts';
import type { Generation } from './types.ts';

/** How long a step waits for a mask when other sequences would be kept waiting with it. */
const PATIENCE_MS = 20;

/**
 * The answer of a generation that is held to a format, with `tokens` so far; undefined: any text will do. Masks follow from these and from
 * nothing else, so that any worker can go on with any answer.
 */
export function openText(
  { constraints, eosTokenIds }: Pick<EngineParts, 'constraints' | 'eosTokenIds'>,
  { constraint, stopTokenIds }: Generation,
  tokens: readonly number[],
): ConstrainedText | undefined {
  if (constraint === undefined) return undefined;
  return constraints?.open(constraint, [...new Set([...eosTokenIds, ...stopTokenIds])], tokens);
}

/** @throws ServiceError `failed_precondition` when nothing here can hold an answer to a format, `invalid_argument` when it could not end */
export function checkConstraint(
  { constraint, ignoreEos }: Generation,
  { constraints, eosTokenIds }: Pick<EngineParts, 'constraints' | 'eosTokenIds'>,
): void {
  if (constraint === undefined) return;
  if (constraints === undefined || eosTokenIds.length === 0) {
    const why = constraints === undefined ? 'has no tokenizer' : 'names no token that ends an answer';
    fail('failed_precondition', 'unsupported_format', `this model ${why}: its answers can't be held to a format`);
  }
  if (!ignoreEos) return;
  fail(
    'invalid_argument',
    'bad_request',
    "'ignore_eos' can't be true together with a response format: the document ends the answer",
    {
      field: 'ignore_eos',
    },
  );
}

/** The mask of the next token; undefined when it is not there after a while and `hurry` is on. */
export async function nextMask(text: ConstrainedText, hurry: boolean): Promise<TokenMask | undefined> {
  if (!hurry) return text.mask();
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, PATIENCE_MS, undefined);
  try {
    return await Promise.race([text.mask(), late]);
  } finally {
    clearTimeout(timer);
  }
}
