/** Identity of a tokenizer: what maps text to ids and back, however its files are written. */
import { hash } from 'node:crypto';
import type { TokenizerSource } from './tokenizer-source.ts';

/** Parts of tokenizer.json that decide ids. The chat template and cosmetic settings don't: workers only see ids. */
const PARTS = ['added_tokens', 'normalizer', 'pre_tokenizer', 'post_processor', 'decoder', 'model'] as const;
/** Settings of tokenizer_config.json that change ids. */
const SETTINGS = [
  'add_bos_token',
  'additional_special_tokens',
  'bos_token',
  'do_lowercase_and_remove_accent',
  'remove_space',
] as const;

/** SHA-256, lower-case hex, over JSON with sorted keys and no nulls; merges as pairs, added tokens by id. */
export function tokenizerHash({ tokenizer, config }: TokenizerSource): string {
  const parts = PARTS.map((name) => canonical(name === 'model' ? oneMergeForm(tokenizer.model) : tokenizer[name]));
  const settings = SETTINGS.map((name) => canonical(config[name]));
  return hash('sha256', JSON.stringify(['causeway tokenizer 1', parts, settings]), 'hex');
}

/** Keys sorted, fields that are null left out (null and absent mean the same in tokenizer.json). */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value ?? null;
  // Pairs, not an object: JavaScript would put keys like "12" first.
  return Object.entries(value)
    .filter(([, field]) => field !== null && field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => [key, canonical(field)]);
}

/** Merges are written as "a b" or as ["a", "b"]. */
function oneMergeForm(model: unknown): unknown {
  if (typeof model !== 'object' || model === null || !('merges' in model) || !Array.isArray(model.merges)) return model;
  const merges: unknown[] = model.merges;
  return { ...model, merges: merges.map((merge) => (typeof merge === 'string' ? merge.split(' ', 2) : merge)) };
}
