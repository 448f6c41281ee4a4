import type { TokenMask } from '@causeway/grammar';
import type { KnownTokens, Sampling } from './types.ts';

/** Which tokens may come next; default: any. */
export interface AllowedTokens {
  /** Of a format. */
  mask?: TokenMask | undefined;
  /** Ids that may not, each in the vocabulary. */
  forbidden?: readonly number[];
}

/**
 * Mask, bias and penalties, as vLLM applies them: first the mask and what is forbidden, then bias, then repetition over prompt and answer, then frequency and presence over the
 * answer. Only the tokens they name are touched. Buffers hold nothing between calls: counts are taken from the tokens each time.
 */
export class LogitAdjuster {
  readonly #adjusted: Float32Array;
  /** All 0 between calls. */
  readonly #counts: Uint32Array;

  constructor(vocabSize: number) {
    this.#adjusted = new Float32Array(vocabSize);
    this.#counts = new Uint32Array(vocabSize);
  }

  /** The logits to choose from: the row itself when nothing changes it, else a buffer that the next call overwrites. */
  adjust(logits: Float32Array, sampling: Sampling, known: KnownTokens, allowed: AllowedTokens = {}): Float32Array {
    const { mask, forbidden = [] } = allowed;
    const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias = [] } = sampling;
    const repeats = repetitionPenalty !== 1 && known.ids.length > 0;
    const counts = (presencePenalty !== 0 || frequencyPenalty !== 0) && known.answer < known.ids.length;
    if (!repeats && !counts && logitBias.length === 0 && mask === undefined && forbidden.length === 0) return logits;
    const out = this.#adjusted;
    out.set(logits);
    if (mask !== undefined) forbid(out, mask);
    for (const id of forbidden) out[id] = Number.NEGATIVE_INFINITY;
    for (const { id, bias } of logitBias) out[id] = (out[id] as number) + bias;
    if (repeats) this.#repetition(known.ids, repetitionPenalty);
    if (counts) this.#counted(known, presencePenalty, frequencyPenalty);
    return out;
  }

  #repetition(ids: ArrayLike<number>, penalty: number): void {
    const out = this.#adjusted;
    const seen = this.#counts;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      if (seen[id] !== 0) continue;
      seen[id] = 1;
      const logit = out[id] as number;
      out[id] = logit > 0 ? logit / penalty : logit * penalty;
    }
    for (let i = 0; i < ids.length; i++) seen[ids[i] as number] = 0;
  }

  #counted({ ids, answer }: KnownTokens, presence: number, frequency: number): void {
    const out = this.#adjusted;
    const counts = this.#counts;
    for (let i = answer; i < ids.length; i++) {
      const id = ids[i] as number;
      counts[id] = (counts[id] as number) + 1;
    }
    for (let i = answer; i < ids.length; i++) {
      const id = ids[i] as number;
      const count = counts[id] as number;
      if (count === 0) continue;
      counts[id] = 0;
      out[id] = (out[id] as number) - (frequency * count + presence);
    }
  }
}

/** Takes every chance from the tokens that the mask does not allow. */
function forbid(logits: Float32Array, mask: TokenMask): void {
  for (let word = 0; word < mask.length; word++) {
    const bits = mask[word] as number;
    const first = word * 32;
    if (bits === 0) logits.fill(Number.NEGATIVE_INFINITY, first, first + 32);
    else if (bits !== 0xffff_ffff) {
      const end = Math.min(first + 32, logits.length);
      for (let id = first; id < end; id++) if (((bits >>> (id - first)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
    }
  }
}
