import type { Constraint } from '@causeway/grammar';
import { describe, expect, it } from 'vitest';
import type { Answer } from '../answer/answer.ts';
import { nextGeneration } from './generation.ts';

/** An answer of two tokens so far. */
const begun = {
  options: {
    promptIds: [1, 2],
    sampling: { temperature: 0.5, topP: 1, topK: 0, seed: 3n, presencePenalty: 1, logitBias: [{ id: 4, bias: 2 }] },
    logprobs: 5,
    stopTokenIds: [9],
    ignoreEos: true,
  },
  emitted: [7, 8],
  remainingTokens: 8,
} as unknown as Answer;

describe('nextGeneration', () => {
  it('tells the workers which tokens end the answer, in every attempt', () => {
    for (const recovery of ['fast', 'exact'] as const) {
      expect(nextGeneration(begun, recovery)).toMatchObject({ stopTokenIds: [9], ignoreEos: true });
    }
  });

  it('tells them how tokens are chosen, and which of the tokens they get are answer: the last ones', () => {
    for (const recovery of ['fast', 'exact'] as const) {
      const { sampling, promptIds, replayIds, firstPosition, topLogprobs } = nextGeneration(begun, recovery);
      expect(sampling).toEqual(begun.options.sampling);
      expect([...promptIds, ...replayIds].slice(-firstPosition)).toEqual([7, 8]);
      expect(topLogprobs).toBe(5);
    }
  });

  it.each<[Constraint, unknown]>([
    [{ kind: 'json_object' }, { $case: 'jsonObject', value: true }],
    [
      { kind: 'json_schema', schema: '{}' },
      { $case: 'jsonSchema', value: '{}' },
    ],
    [
      { kind: 'regex', pattern: 'a' },
      { $case: 'regex', value: 'a' },
    ],
    [
      { kind: 'choice', choices: ['a', 'b'] },
      { $case: 'choices', value: { texts: ['a', 'b'] } },
    ],
  ])('tells them what the answer is held to: %j', (body, message) => {
    const thinking = { begin: '<think>', end: '</think>', begun: true };
    const held = (constraint: Constraint) =>
      ({ options: { ...begun.options, constraint }, emitted: [7, 8], remainingTokens: 8 }) as unknown as Answer;
    expect(nextGeneration(held(body), 'fast').constraint).toEqual({ body: message, prefix: '', suffix: '', thinking: undefined });
    const around = { ...body, prefix: 'x', suffix: 'y', thinking };
    expect(nextGeneration(held(around), 'exact').constraint).toEqual({ body: message, prefix: 'x', suffix: 'y', thinking });
    expect(nextGeneration(begun, 'fast').constraint).toBeUndefined();
  });

  it('fast: reads the tokens so far as a prompt, and so does a worker after a preemption', () => {
    expect(nextGeneration(begun, 'fast')).toMatchObject({
      promptIds: [1, 2, 7, 8],
      replayIds: [],
      maxTokens: 8,
      firstPosition: 2,
      exactResume: false,
    });
  });

  it('exact: has them replayed as decode steps, and by a worker after a preemption', () => {
    expect(nextGeneration(begun, 'exact')).toMatchObject({
      promptIds: [1, 2],
      replayIds: [7, 8],
      maxTokens: 8,
      firstPosition: 2,
      exactResume: true,
    });
  });
});
