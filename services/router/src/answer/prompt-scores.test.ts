import { workerV1 } from '@causeway/proto';
import { describe, expect, it } from 'vitest';
import { promptLogprobs, PromptScores } from './prompt-scores.ts';

const tokens = (from: number, count: number): workerV1.PromptScore[] =>
  Array.from({ length: count }, (_, i) => workerV1.PromptScore.fromPartial({ id: from + i, logprob: -(from + i) }));

describe('PromptScores', () => {
  it('are told once, when all have come, each taken once whatever attempt it is of', () => {
    const scores = new PromptScores(6, 2);
    scores.offer(1, tokens(1, 2));
    // What follows a gap is of no use.
    scores.offer(4, tokens(4, 2));
    expect([scores.complete, scores.take()]).toEqual([false, undefined]);
    // Another attempt begins anew.
    scores.offer(1, tokens(1, 4));
    expect(scores.complete).toBe(false);
    scores.offer(5, tokens(5, 9));
    expect([scores.complete, scores.told]).toEqual([true, false]);
    expect(scores.take()?.map(({ logprob }) => logprob)).toEqual([-1, -2, -3, -4, -5]);
    expect([scores.told, scores.take()]).toEqual([true, undefined]);
  });

  it('of a prompt of one token are none', () => {
    expect(new PromptScores(1, 0).take()).toEqual([]);
  });
});

it('promptLogprobs names tokens and says where they begin, in characters', async () => {
  const texts = ['😀a', '', 'b'];
  const tokenizer = {
    tokenBytes: (id: number) => Buffer.from(`t${id}`),
    decodeStream: () => ({ push: (id: number) => texts[id] ?? '', flush: () => '' }),
  };
  const score = { id: 1, logprob: -0.5, topLogprobs: [{ id: 2, logprob: -0.25 }] };
  expect(await promptLogprobs([0, 1, 2], [score, { ...score, id: 2, topLogprobs: [] }], tokenizer)).toEqual([
    { token: 't0', offset: 0, logprob: undefined, top: [] },
    { token: 't1', offset: 2, logprob: -0.5, top: [{ token: 't2', bytes: [...Buffer.from('t2')], logprob: -0.25 }] },
    { token: 't2', offset: 2, logprob: -0.5, top: [] },
  ]);
});
