import type { SampledToken, TopLogprob } from './types.ts';

/** The `count` likeliest tokens of a row: the likeliest first, the lowest id first among equals. Tokens without a chance are left out. */
export function topLogprobs(logits: Float32Array, count: number, sampled: SampledToken): TopLogprob[] {
  const ids: number[] = [];
  const values: number[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const value = logits[id] as number;
    if (!(value > least)) continue;
    let place = values.length === count ? count - 1 : values.length;
    for (; place > 0 && (values[place - 1] as number) < value; place--) {
      values[place] = values[place - 1] as number;
      ids[place] = ids[place - 1] as number;
    }
    values[place] = value;
    ids[place] = id;
    if (values.length === count) least = values[count - 1] as number;
  }
  // What all logits of the row have in common; the sampled token's own is given as it is.
  const normalizer = (logits[sampled.id] as number) - sampled.logprob;
  return ids.map((id, i) => ({ id, logprob: id === sampled.id ? sampled.logprob : (values[i] as number) - normalizer }));
}
