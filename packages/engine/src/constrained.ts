import { fail } from '@causeway/errors';
import type { ConstrainedText, TokenMask } from '@causeway/grammar';
import type { EngineParts } from './engine-parts.ts';
import type { Generation } from './types.ts';

/** How long a step waits for masks when other sequences would be kept waiting with it. */
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

/** The masks that one step of a batch waits for. */
export class StepMasks implements Disposable {
  readonly #late: Promise<undefined> | undefined;
  readonly #timer: NodeJS.Timeout | undefined;

  /** `shared`: others wait for this step too, so that it waits for no mask longer than a moment. */
  constructor(shared: boolean) {
    if (!shared) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#late = promise;
    this.#timer = setTimeout(resolve, PATIENCE_MS, undefined);
  }

  /** The mask of the next token of a text; undefined: it is late. */
  async next(text: ConstrainedText): Promise<TokenMask | undefined> {
    return this.#late === undefined ? text.mask() : Promise.race([text.mask(), this.#late]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Settles with the first mask of any of the texts, or the first failure. */
export async function anyMask(texts: readonly ConstrainedText[]): Promise<void> {
  await Promise.race(texts.map((text) => text.mask().catch(() => undefined)));
}
