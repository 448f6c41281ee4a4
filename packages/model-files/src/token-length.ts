/** How much text one token can stand for: what refuses a text that is too long before anybody tokenizes it. */
import type { TokenizerSource } from './tokenizer-source.ts';

/** Canonical composition shortens UTF-8 to a third at most (Hangul syllables, Greek with three marks). */
const NFC_FACTOR = 3;
/** Steps that keep every byte of the text. */
const LOSSLESS_STEPS: ReadonlySet<unknown> = new Set(['ByteLevel', 'Digits', 'Split']);

/**
 * Most bytes of UTF-8 that one token stands for, so that a text of n bytes has at least n / this tokens. Undefined when there is no
 * such number: only byte-level BPE is known to drop and fuse nothing.
 */
export function maxTokenBytes({ tokenizer }: TokenizerSource): number | undefined {
  const { model, pre_tokenizer: preTokenizer, added_tokens: added } = tokenizer;
  const factor = normalizerFactor(tokenizer.normalizer);
  if (factor === undefined || !isByteLevelBpe(model, preTokenizer)) return undefined;
  const addedTokens: readonly Partial<AddedToken>[] = Array.isArray(added) ? added : [];
  // Such tokens swallow any run of spaces beside them.
  if (addedTokens.some(({ lstrip, rstrip }) => lstrip === true || rstrip === true)) return undefined;
  let longest = 0;
  // In a byte-level vocabulary a character stands for a byte.
  for (const token of Object.keys(model.vocab)) longest = Math.max(longest, token.length);
  for (const { content } of addedTokens)
    longest = Math.max(longest, Buffer.byteLength(typeof content === 'string' ? content : ''));
  return longest === 0 ? undefined : longest * factor;
}

interface AddedToken {
  content: unknown;
  lstrip: unknown;
  rstrip: unknown;
}

function isByteLevelBpe(model: unknown, preTokenizer: unknown): model is { vocab: object } {
  if (typeof model !== 'object' || model === null) return false;
  const { type, fuse_unk: fuses, vocab } = model as Record<string, unknown>;
  const steps = stepsOf(preTokenizer, 'pretokenizers');
  return (
    type === 'BPE' &&
    fuses !== true &&
    typeof vocab === 'object' &&
    vocab !== null &&
    steps.some((step) => step.type === 'ByteLevel') &&
    steps.every((step) => LOSSLESS_STEPS.has(step.type) && step.behavior !== 'Removed')
  );
}

/** By how much the normalizer may shorten a text; undefined: any amount. */
function normalizerFactor(normalizer: unknown): number | undefined {
  const steps = stepsOf(normalizer, 'normalizers');
  return steps.every(({ type }) => type === 'NFC') ? (steps.length === 0 ? 1 : NFC_FACTOR) : undefined;
}

/** A step, or the steps of a sequence. */
export function stepsOf(step: unknown, key: string): Record<string, unknown>[] {
  if (typeof step !== 'object' || step === null) return [];
  const { type, [key]: inner } = step as Record<string, unknown>;
  if (type !== 'Sequence') return [step as Record<string, unknown>];
  return Array.isArray(inner) ? inner.flatMap((each) => stepsOf(each, key)) : [{ type: undefined }];
}
