/** What one layer's router chose, by expert. */
import { fail } from '@causeway/errors';

/** The tokens that chose one expert. */
export interface ExpertTokens {
  expert: number;
  /** Ascending. */
  tokens: number[];
  weights: number[];
  /** Place of the expert among those of each token, in ascending order of ids. */
  slots: number[];
}

/**
 * Sorts [N, k] choices by expert: experts ascending, tokens ascending within one.
 * @throws ServiceError `internal` for an id that the model does not have.
 */
export function tokensByExpert(ids: BigInt64Array, weights: Float32Array, perToken: number, experts: number): ExpertTokens[] {
  const buckets: (ExpertTokens | undefined)[] = Array.from({ length: experts });
  for (let at = 0; at < ids.length; at++) {
    const expert = Number(ids[at]);
    if (expert < 0 || expert >= experts) fail('internal', 'internal', `a router chose expert ${expert} of ${experts}`);
    const bucket = (buckets[expert] ??= { expert, tokens: [], weights: [], slots: [] });
    bucket.tokens.push(Math.floor(at / perToken));
    bucket.weights.push(weights[at] as number);
  }
  const sorted = buckets.filter((bucket) => bucket !== undefined);
  const taken = new Uint16Array(ids.length / perToken);
  for (const { tokens, slots } of sorted) {
    for (const token of tokens) {
      const slot = taken[token] ?? 0;
      slots.push(slot);
      taken[token] = slot + 1;
    }
  }
  return sorted;
}

/** Cuts an expert's tokens into runs of at most `most`. */
export function splitTokens(one: ExpertTokens, most: number): ExpertTokens[] {
  const parts: ExpertTokens[] = [];
  for (let from = 0; from < one.tokens.length; from += most) {
    const cut = <T>(list: T[]): T[] => list.slice(from, from + most);
    parts.push({ expert: one.expert, tokens: cut(one.tokens), weights: cut(one.weights), slots: cut(one.slots) });
  }
  return parts;
}
