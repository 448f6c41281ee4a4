import { fail } from '@causeway/errors';
import type { TokenMask } from '@causeway/grammar';
import { LogitAdjuster } from './adjust.ts';
import { exponentials } from './exponential.ts';
import { type Cut, NucleusSearch } from './nucleus.ts';
import { uniform } from './philox.ts';
import type { KnownTokens, SampledToken, Sampling } from './types.ts';

const NO_TOKENS: KnownTokens = { ids: [], answer: 0 };

/**
 * Chooses tokens: a pure function of (sampling, position, logits, tokens so far); the buffers it keeps hold nothing between calls.
 *
 * Order as in vLLM: mask, bias and penalties, temperature, min_p, top_k, then top_p over the weight that these left. Tokens are ordered
 * by logit, then by id, so that equal logits never depend on anything else.
 */
export class Sampler {
  readonly #weights: Float64Array;
  readonly #search: NucleusSearch;
  readonly #adjuster: LogitAdjuster;

  /** Buffers for rows of `vocabSize` logits (36 bytes per token of vocabulary and 1.5 MB). */
  constructor(vocabSize: number) {
    this.#weights = new Float64Array(vocabSize);
    this.#search = new NucleusSearch(vocabSize);
    this.#adjuster = new LogitAdjuster(vocabSize);
  }

  /**
   * Chooses the token at answer position `position` from `logits` f32 [vocabSize], among those that `mask` allows.
   * @throws ServiceError `internal/runtime` when the model gave NaN or no finite logit.
   */
  sample(
    logits: Float32Array,
    sampling: Sampling,
    position: number,
    known: KnownTokens = NO_TOKENS,
    mask?: TokenMask,
  ): SampledToken {
    const top = argmax(logits);
    const max = logits[top] as number;
    const total = exponentials(logits, max, 1, this.#weights);
    if (!Number.isFinite(max) || Number.isNaN(total)) {
      fail('internal', 'runtime', `the model gave logits that are no numbers at answer position ${position}`);
    }
    const id = this.#choose(logits, { id: top, total }, sampling, position, known, mask);
    return { id, logprob: (logits[id] as number) - max - Math.log(total) };
  }

  /** `top` is the row's own likeliest token, and what `weights` add up to at temperature 1. */
  #choose(
    row: Float32Array,
    top: { id: number; total: number },
    sampling: Sampling,
    position: number,
    known: KnownTokens,
    mask: TokenMask | undefined,
  ): number {
    const logits = this.#adjuster.adjust(row, sampling, known, mask);
    const best = logits === row ? top.id : argmax(logits);
    if (logits[best] === Number.NEGATIVE_INFINITY) {
      fail('internal', 'runtime', `the model gave no finite logit to any token that is allowed at answer position ${position}`);
    }
    if (sampling.temperature === 0) return best;
    const { temperature, minP = 0 } = sampling;
    const weighed = logits === row && temperature === 1 && minP === 0;
    const mass = weighed ? top.total : exponentials(logits, logits[best] as number, temperature, this.#weights, minP);
    return this.#draw(logits, mass, sampling, position);
  }

  /** `mass`: what the weights add up to. */
  #draw(logits: Float32Array, mass: number, sampling: Sampling, position: number): number {
    const search = this.#search;
    search.load(logits, this.#weights);
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
