import type { TokenMask } from '@causeway/grammar';
import type { Sampler } from './sampler.ts';
import { topLogprobs } from './top-logprobs.ts';
import type { Generation, KnownTokens, SampledToken } from './types.ts';

/** Index of the answer's first token among the known ones: the last `firstPosition` of prompt and replayed tokens are answer. */
export function answerStart({ promptIds, replayIds, firstPosition }: Generation): number {
  return Math.max(0, promptIds.length + replayIds.length - firstPosition);
}

/** Chooses a token and adds what the generation wants to know of its row. */
export function sampleToken(
  sampler: Sampler,
  logits: Float32Array,
  generation: Generation,
  position: number,
  known: KnownTokens,
  mask: TokenMask | undefined,
): SampledToken {
  const { sampling, topLogprobs: tops = 0, returnLogits } = generation;
  const sampled = sampler.sample(logits, sampling, position, known, mask);
  if (tops === 0 && returnLogits !== true) return sampled;
  return {
    ...sampled,
    ...(tops === 0 ? {} : { topLogprobs: topLogprobs(logits, tops, sampled) }),
    ...(returnLogits === true ? { logits: logits.slice() } : {}),
  };
}
