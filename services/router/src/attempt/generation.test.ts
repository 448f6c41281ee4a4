import type { Constraint } from '@causeway/grammar';
import { describe, expect, it } from 'vitest';
import type { Choices } from '../answer/choices.ts';
import { nextGeneration } from './generation.ts';

const sampling = { temperature: 0.5, topP: 1, topK: 0, seed: 3n, presencePenalty: 1, logitBias: [{ id: 4, bias: 2 }] };
const shared = { promptIds: [1, 2], logprobs: 5, stopTokenIds: [9], ignoreEos: true };

/** Choices of so many tokens each, some of them still open. */
function choicesOf(open: readonly [index: number, emitted: number[]][]): Choices {
  const answer = (index: number, emitted: number[]) => ({
    options: { ...shared, sampling: { ...sampling, seed: 3n + BigInt(index) } },
    emitted,
    remainingTokens: 10 - emitted.length,
  });
  return { shared, open: open.map(([index, emitted]) => [index, answer(index, emitted)]) } as unknown as Choices;
}

/** An answer of two tokens so far. */
const begun = choicesOf([[0, [7, 8]]]);

describe('nextGeneration', () => {
  it('tells the workers which tokens end the answer, in every attempt', () => {
    for (const recovery of ['fast', 'exact'] as const) {
      expect(nextGeneration(begun, recovery)).toMatchObject({ stopTokenIds: [9], ignoreEos: true });
    }
  });

  it('tells them how tokens are chosen, and which of the tokens they get are answer: the last ones', () => {
    for (const recovery of ['fast', 'exact'] as const) {
      const { sampling: sent, promptIds, replayIds, firstPosition, topLogprobs } = nextGeneration(begun, recovery);
      expect(sent).toEqual(sampling);
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
    const held = (constraint: Constraint) => ({ shared: { ...shared, constraint }, open: begun.open }) as unknown as Choices;
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

  it('several answers have the bare prompt in common and replay their own tokens, whatever the recovery', () => {
    const two = choicesOf([
      [0, [7, 8]],
      [2, []],
    ]);
    for (const recovery of ['fast', 'exact'] as const) {
      expect(nextGeneration(two, recovery)).toMatchObject({
        promptIds: [1, 2],
        exactResume: recovery === 'exact',
        choices: [
          { index: 0, seed: 3n, replayIds: [7, 8], maxTokens: 8, firstPosition: 2 },
          { index: 2, seed: 5n, replayIds: [], maxTokens: 10, firstPosition: 0 },
        ],
      });
    }
  });

  it('the last of several goes on as a single one does, under its own name', () => {
    const last = choicesOf([[2, [7, 8]]]);
    expect(nextGeneration(last, 'fast')).toMatchObject({
      promptIds: [1, 2, 7, 8],
      choices: [{ index: 2, seed: 5n, replayIds: [], maxTokens: 8, firstPosition: 2 }],
    });
    expect(nextGeneration(last, 'exact')).toMatchObject({ promptIds: [1, 2], choices: [{ index: 2, replayIds: [7, 8] }] });
    expect(nextGeneration(begun, 'fast').choices).toEqual([]);
  });
});
