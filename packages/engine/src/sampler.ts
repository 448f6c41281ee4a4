import { fail } from '@causeway/errors';
import { exponentials } from './exponential.ts';
import { type Cut, NucleusSearch } from './nucleus.ts';
import { uniform } from './philox.ts';
import type { SampledToken, Sampling } from './types.ts';

/**
 * Chooses tokens: a pure function of (sampling, position, logits); the buffers it keeps hold nothing between calls.
 *
 * Order as in Hugging Face and vLLM: temperature, then top_k, then top_p over the weight that top_k left. Tokens are ordered by
 * logit, then by id, so that equal logits never depend on anything else.
 */
export class Sampler {
  readonly #weights: Float64Array;
  readonly #search: NucleusSearch;

  /** Buffers for rows of `vocabSize` logits (28 bytes per token of vocabulary and 1.5 MB). */
  constructor(vocabSize: number) {
    this.#weights = new Float64Array(vocabSize);
    this.#search = new NucleusSearch(vocabSize);
  }

  /**
   * Chooses the token at answer position `position` from `logits` f32 [vocabSize].
   * @throws ServiceError `internal/runtime` when the model gave NaN or no finite logit.
   */
  sample(logits: Float32Array, sampling: Sampling, position: number): SampledToken {
    const top = argmax(logits);
    const max = logits[top] as number;
    const total = exponentials(logits, max, 1, this.#weights);
    if (!Number.isFinite(max) || Number.isNaN(total)) {
      fail('internal', 'runtime', `the model gave logits that are no numbers at answer position ${position}`);
    }
    const id = sampling.temperature === 0 ? top : this.#draw(logits, max, total, sampling, position);
    return { id, logprob: (logits[id] as number) - max - Math.log(total) };
  }

  #draw(logits: Float32Array, max: number, total: number, sampling: Sampling, position: number): number {
    const weights = this.#weights;
    const mass = sampling.temperature === 1 ? total : exponentials(logits, max, sampling.temperature, weights);
    const search = this.#search;
    search.load(logits, weights);
    let cut: Cut = { key: 0, ties: logits.length, mass };
    if (sampling.topK > 0 && sampling.topK < logits.length) cut = search.cut(sampling.topK, 0);
    if (sampling.topP < 1) cut = search.cut(1, sampling.topP * cut.mass);
    return search.draw(cut, uniform(sampling.seed, position));
  }
}

/** Index of the largest value, the lowest on ties; NaN never wins. */
function argmax(values: Float32Array): number {
  let best = 0;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value > max) {
      max = value;
      best = i;
    }
  }
  return best;
}
