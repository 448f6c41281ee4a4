/** Penalties and log-probabilities in a running engine: an answer that is continued has the bits it would have had. */
import { describe, expect, it } from 'vitest';
import { bits, generate, generation, numbers, randomIds, startEngine } from './testing/start-engine.ts';
import type { GeneratedToken, Sampling } from './types.ts';

const PENALTIES = { presencePenalty: 0.8, frequencyPenalty: 0.6, repetitionPenalty: 1.2, logitBias: [{ id: 12, bias: 3 }] };
const SAMPLINGS: [string, Sampling][] = [
  ['greedy', { temperature: 0, topP: 1, topK: 0, seed: 0n, ...PENALTIES }],
  ['drawn', { temperature: 1.1, topP: 0.95, topK: 0, seed: 5n, minP: 0.02, ...PENALTIES }],
];
const prompt = randomIds(numbers(3), 61, 257);
const TOKENS = 40;

const idsOf = (tokens: readonly GeneratedToken[]) => tokens.map(({ id }) => id);
const withTops = (tokens: readonly GeneratedToken[]) => tokens.map(({ id, topLogprobs }) => ({ id, topLogprobs }));

describe.each(SAMPLINGS)('with penalties, %s', (_name, sampling) => {
  it('an answer goes on as it would have, replayed or read as one prompt', async () => {
    await using t = await startEngine('tiny-moe');
    const more = { sampling, topLogprobs: 3 };
    const whole = await generate(t.engine, generation(prompt, { maxTokens: TOKENS, ...more }));
    const plain = await generate(t.engine, generation(prompt, { maxTokens: TOKENS, sampling: { ...sampling, ...NONE } }));
    expect(idsOf(whole)).not.toEqual(idsOf(plain));
    for (const known of [1, 7, 33]) {
      const given = idsOf(whole.slice(0, known));
      const rest = { maxTokens: TOKENS - known, firstPosition: known, ...more };
      const replayed = await generate(t.engine, generation(prompt, { ...rest, replayIds: Uint32Array.from(given) }));
      expect(bits(replayed)).toBe(bits(whole.slice(known)));
      expect(withTops(replayed)).toEqual(withTops(whole.slice(known)));
      const read = await generate(t.engine, generation([...prompt, ...given], rest));
      expect(idsOf(read)).toEqual(idsOf(whole.slice(known)));
    }
    expect(t.errors).toEqual([]);
  });
});

const NONE = { presencePenalty: 0, frequencyPenalty: 0, repetitionPenalty: 1, logitBias: [] };

describe('log-probabilities', () => {
  it('come with every token, those of the first too, and say nothing of bias', async () => {
    await using t = await startEngine('tiny-moe');
    const ask = (logitBias: { id: number; bias: number }[]) =>
      generate(
        t.engine,
        generation(prompt, { maxTokens: 4, topLogprobs: 2, sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n, logitBias } }),
      );
    const [plain] = await ask([]);
    const likeliest = plain?.topLogprobs?.[0];
    expect(likeliest).toEqual({ id: plain?.id, logprob: plain?.logprob });
    const forced = await ask([{ id: 99, bias: 100 }]);
    expect(idsOf(forced)).toEqual([99, 99, 99, 99]);
    // As the wire carries them.
    const rounded = (token?: GeneratedToken) => token?.topLogprobs?.map(({ id, logprob }) => [id, Math.fround(logprob)]);
    expect(rounded(forced[0])).toEqual(rounded(plain));
    expect(forced[0]?.logprob).toBeLessThan(plain?.topLogprobs?.[1]?.logprob ?? 0);
    for (const { topLogprobs } of forced) expect(topLogprobs).toHaveLength(2);
  });

  it.each<[string, { topLogprobs?: number; sampling?: Partial<Sampling> }]>([
    ['top_logprobs', { topLogprobs: 21 }],
    ['top_logprobs', { topLogprobs: 0.5 }],
    ['min_p', { sampling: { minP: Number.NaN } }],
    ['repetition_penalty', { sampling: { repetitionPenalty: 0 } }],
    ['presence_penalty', { sampling: { presencePenalty: Number.NaN } }],
    ['frequency_penalty', { sampling: { frequencyPenalty: -3 } }],
    ['logit_bias', { sampling: { logitBias: [{ id: 1, bias: Number.NaN }] } }],
    ['logit_bias', { sampling: { logitBias: [{ id: 1 << 24, bias: 1 }] } }],
    ['logit_bias', { sampling: { logitBias: Array.from({ length: 1025 }, (_, id) => ({ id, bias: 1 })) } }],
  ])('%s out of range is refused', async (field, { sampling = {}, ...more }) => {
    await using t = await startEngine('tiny-moe');
    const g = generation(prompt, { ...more, sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n, ...sampling } });
    await expect(generate(t.engine, g)).rejects.toMatchObject({ code: 'invalid_argument', field });
  });
});
