import { fail } from '@causeway/errors';
import { type AllowedTokens, LogitAdjuster } from './adjust.ts';
import { exponentials } from './exponential.ts';
import { type Cut, drawFromRow, NucleusSearch } from './nucleus.ts';
import { uniform } from './philox.ts';
import type { KnownTokens, SampledToken, Sampling } from './types.ts';

const NO_TOKENS: KnownTokens = { ids: [], answer: 0 };

/** What a row's log-probabilities have in common. */
export interface RowScale {
  /** The likeliest token, the lowest id on ties, and its logit. */
  top: number;
  max: number;
  /** Sum of exp(logit - max) over the row. */
  total: number;
}

/**
 * Chooses tokens: a pure function of (sampling, position, logits, tokens so far); what the buffers it keeps hold between calls
 * saves work and changes nothing.
 *
 * Order as in vLLM: what is allowed, bias and penalties, temperature, min_p, top_k, then top_p over the weight that these left. Tokens are ordered
 * by logit, then by id, so that equal logits never depend on anything else.
 *
 * In two calls, {@link scale} and {@link choose}, as each takes 2 to 4 ms for 150,000 logits and the event loop may run between.
 */
export class Sampler {
  readonly #weights: Float64Array;
  readonly #search: NucleusSearch;
  readonly #adjuster: LogitAdjuster;
  /** The row whose weights at temperature 1 the buffer holds. */
  #weighed: RowScale | undefined;

  /** Buffers for rows of `vocabSize` logits (40 bytes per token of vocabulary and 1.5 MB). */
  constructor(vocabSize: number) {
    this.#weights = new Float64Array(vocabSize);
    this.#search = new NucleusSearch(vocabSize);
    this.#adjuster = new LogitAdjuster(vocabSize);
  }

  /** {@link scale} and {@link choose} in one. */
  sample(
    logits: Float32Array,
    sampling: Sampling,
    position: number,
    known: KnownTokens = NO_TOKENS,
    allowed?: AllowedTokens,
  ): SampledToken {
    return this.choose(logits, this.scale(logits, position), sampling, position, known, allowed);
  }

  /**
   * The first pass over a row of `logits` f32 [vocabSize], for answer position `position`.
   * @throws ServiceError `internal/runtime` when the model gave NaN or no finite logit.
   */
  scale(logits: Float32Array, position: number): RowScale {
    const top = argmax(logits);
    const max = logits[top] as number;
    const total = exponentials(logits, max, 1, this.#weights);
    if (!Number.isFinite(max) || Number.isNaN(total)) {
      fail('internal', 'runtime', `the model gave logits that are no numbers at answer position ${position}`);
    }
    this.#weighed = { top, max, total };
    return this.#weighed;
  }

  /** Chooses the token at answer position `position` from `logits` f32 [vocabSize] and their scale, among those that are `allowed`. */
  choose(
    logits: Float32Array,
    scale: RowScale,
    sampling: Sampling,
    position: number,
    known: KnownTokens = NO_TOKENS,
    allowed?: AllowedTokens,
  ): SampledToken {
    const id = this.#choose(logits, scale, sampling, position, known, allowed);
    return { id, logprob: (logits[id] as number) - scale.max - Math.log(scale.total) };
  }

  #choose(
    row: Float32Array,
    scale: RowScale,
    sampling: Sampling,
    position: number,
    known: KnownTokens,
    allowed: AllowedTokens | undefined,
  ): number {
    const logits = this.#adjuster.adjust(row, sampling, known, allowed);
    const best = logits === row ? scale.top : argmax(logits);
    if (logits[best] === Number.NEGATIVE_INFINITY) {
      fail('internal', 'runtime', `the model gave no finite logit to any token that is allowed at answer position ${position}`);
    }
    if (sampling.temperature === 0) return best;
    const { temperature, minP = 0 } = sampling;
    if (logits === row && temperature === 1 && minP === 0 && this.#weighed === scale) {
      return this.#draw(logits, scale.total, sampling, position);
    }
    this.#weighed = undefined;
    const mass = exponentials(logits, logits[best] as number, temperature, this.#weights, minP);
    return this.#draw(logits, mass, sampling, position);
  }

  /** `mass`: what the weights add up to. */
  #draw(logits: Float32Array, mass: number, { topK, topP, seed }: Sampling, position: number): number {
    const u = uniform(seed, position);
    const cutsK = topK > 0 && topK < logits.length;
    if (!cutsK && topP >= 1) return drawFromRow(this.#weights, mass, u);
    const search = this.#search;
    search.load(logits, this.#weights);
    let cut: Cut = { key: 0, ties: logits.length, mass };
    if (cutsK) cut = search.cut(topK, 0);
    if (topP < 1) cut = search.cut(1, topP * cut.mass);
    return search.draw(cut, u);
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
