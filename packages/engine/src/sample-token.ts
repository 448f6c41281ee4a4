import type { TokenMask } from '@causeway/grammar';
import type { EngineParts } from './engine-parts.ts';
import { topLogprobs } from './top-logprobs.ts';
import type { Generation, KnownTokens, SampledToken } from './types.ts';

/** Index of the answer's first token among the known ones: the last `firstPosition` of prompt and replayed tokens are answer. */
export function answerStart({ promptIds, replayIds, firstPosition }: Generation): number {
  return Math.max(0, promptIds.length + replayIds.length - firstPosition);
}

/** Tokens that would end the answer at a position where it must go on. */
function endsTooEarly(
  { minTokens = 0, ignoreEos, stopTokenIds }: Generation,
  eosTokenIds: readonly number[],
  position: number,
): readonly number[] {
  if (position >= minTokens) return [];
  return ignoreEos ? stopTokenIds : [...eosTokenIds, ...stopTokenIds];
}

/**
 * Chooses a token from a row f32 [vocabSize] and adds what the generation wants to know of it. Lets the event loop run between the
 * passes when the vocabulary is large; the row must rest until the promise resolves.
 */
export async function sampleToken(
  { sampler, time, eosTokenIds }: Pick<EngineParts, 'sampler' | 'time' | 'eosTokenIds'>,
  logits: Float32Array,
  generation: Generation,
  position: number,
  known: KnownTokens,
  mask: TokenMask | undefined,
): Promise<SampledToken> {
  const { sampling, topLogprobs: tops = 0, returnLogits } = generation;
  const allowed = { mask, forbidden: endsTooEarly(generation, eosTokenIds, position) };
  const scale = time.section('sample', () => sampler.scale(logits, position));
  await time.breathe();
  const sampled = time.section('sample', () => sampler.choose(logits, scale, sampling, position, known, allowed));
  if (tops === 0 && returnLogits !== true) return sampled;
  await time.breathe();
  return time.section('sample', () => ({
    ...sampled,
    ...(tops === 0 ? {} : { topLogprobs: topLogprobs(logits, tops, sampled) }),
    ...(returnLogits === true ? { logits: logits.slice() } : {}),
  }));
}
