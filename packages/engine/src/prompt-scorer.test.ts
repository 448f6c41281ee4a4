/** How likely a prompt's own tokens are: against the logits of every position, whatever the chunks; the answer is none the worse. */
import { describe, expect, it } from 'vitest';
import { bits, generation, never, numbers, randomIds, startEngine, type TestEngine } from './testing/start-engine.ts';
import type { GeneratedToken, ScoredToken } from './types.ts';

const TOPS = 3;

/** log softmax of each row but the last, and its likeliest tokens, from the logits of all positions. */
async function reference(
  { engine }: TestEngine,
  ids: number[],
): Promise<{ logprobs: number[]; tops: { id: number; logprob: number }[][] }> {
  const logprobs: number[] = [];
  const tops: { id: number; logprob: number }[][] = [];
  const { vocabSize } = engine.info;
  await engine.logits(Uint32Array.from(ids), (start, logits) => {
    for (let row = 0; row * vocabSize < logits.length && start + row + 1 < ids.length; row++) {
      const values = Array.from(logits.subarray(row * vocabSize, (row + 1) * vocabSize));
      const max = Math.max(...values);
      const total = Math.log(values.reduce((sum, value) => sum + Math.exp(value - max), 0)) + max;
      logprobs.push((values[ids[start + row + 1] as number] as number) - total);
      const order = values.map((value, id) => ({ id, logprob: value - total })).sort((a, b) => b.logprob - a.logprob);
      tops.push(order.slice(0, TOPS));
    }
  });
  return { logprobs, tops };
}

async function scored(
  t: TestEngine,
  ids: number[],
  tops: number | undefined,
): Promise<{ scores: ScoredToken[]; answer: string }> {
  const one = generation(ids, { maxTokens: 5, ...(tops === undefined ? {} : { promptLogprobs: tops }) });
  const two = { ...one, sampling: { temperature: 1, topP: 1, topK: 0, seed: 3n } };
  using pages = await t.engine.reserve(t.engine.room(one, two), never);
  const scores: ScoredToken[] = [];
  const onScores = (position: number, tokens: readonly ScoredToken[]): void => {
    expect(position).toBe(scores.length + 1);
    scores.push(...tokens);
  };
  const { firsts } = await t.engine.prefillChoices([one, two], pages, never, { onScores });
  const sets = await t.engine.fork(pages, [one, two]);
  const tokens: GeneratedToken[] = [...(firsts as GeneratedToken[])];
  for (const [i, g] of [one, two].entries()) {
    for await (const token of t.engine.decode(g, sets[i]!, firsts[i], never)) tokens.push(token);
  }
  return { scores, answer: bits(tokens) };
}

describe.each([
  [1, 64],
  [2, 64],
  [64, 64],
  [65, 64],
  [150, 128],
  [150, 7],
])('a prompt of %i tokens in chunks of %i', (length, chunkTokens) => {
  it('gives each of its tokens but the first as likely as the logits say', async () => {
    await using t = await startEngine('tiny-moe', { chunkTokens });
    const ids = randomIds(numbers(length), length, t.engine.info.vocabSize);
    const { logprobs, tops } = await reference(t, ids);
    const plain = await scored(t, ids, undefined);
    expect(plain.scores).toEqual([]);
    for (const count of [0, TOPS]) {
      const { scores, answer } = await scored(t, ids, count);
      expect(scores.map(({ id }) => id)).toEqual(ids.slice(1));
      scores.forEach(({ logprob, topLogprobs }, i) => {
        expect(logprob).toBeCloseTo(logprobs[i] as number, 4);
        expect(topLogprobs.map(({ id }) => id)).toEqual((tops[i] ?? []).slice(0, count).map(({ id }) => id));
        topLogprobs.forEach((top, rank) => expect(top.logprob).toBeCloseTo(tops[i]?.[rank]?.logprob as number, 4));
      });
      // Nothing that is kept or sampled depends on whether somebody asked.
      expect(answer).toBe(plain.answer);
    }
    expect(t.pool.freePages).toBe(t.pool.totalPages);
    expect(t.errors).toEqual([]);
  });
});

it('a number of likeliest tokens that is none is refused', async () => {
  await using t = await startEngine('tiny-moe');
  using pages = await t.engine.reserve(16, never);
  for (const promptLogprobs of [-1, 21, 0.5]) {
    const refused = t.engine.prefill(generation([1, 2], { promptLogprobs }), pages, never);
    await expect(refused).rejects.toMatchObject({ code: 'invalid_argument', field: 'prompt_logprobs' });
  }
});
