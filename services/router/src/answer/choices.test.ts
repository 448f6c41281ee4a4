import { workerV1 } from '@causeway/proto';
import { describe, expect, it } from 'vitest';
import { Answer } from './answer.ts';
import { Choices, choiceSeed } from './choices.ts';

/** Every token is a letter. */
const detokenizer = { push: (id: number) => String.fromCharCode(97 + id), flush: () => '' };

function answer(stop: readonly string[] = [], maxTokens = 5): Answer {
  return new Answer({
    model: 'm',
    promptIds: [1, 2],
    maxTokens,
    sampling: workerV1.Sampling.fromPartial({ topP: 1 }),
    logprobs: undefined,
    stop,
    stopTokenIds: [],
    ignoreEos: false,
    minTokens: 0,
    constraint: undefined,
    placement: undefined,
    detokenizer,
  });
}

const token = (choice: number, position: number, id = 0, attempt = 1) => ({
  attempt,
  choice,
  position,
  id,
  logprob: 0,
  topLogprobs: [],
  finishReason: undefined,
  arrivedAt: 0,
  wire: workerV1.Token.fromPartial({}),
});

describe('Choices', () => {
  it('give each answer its own tokens and know which are open', () => {
    const choices = new Choices([answer(), answer(['b']), answer()]);
    for (const [choice, position] of [
      [0, 0],
      [2, 0],
      [2, 1],
      [7, 0],
    ] as const) {
      choices.offer(token(choice, position), 1);
    }
    choices.offer(token(1, 0, 1), 1);
    for (const each of choices.answers) while (each.take() !== undefined);
    expect(choices.answers.map(({ emitted }) => emitted)).toEqual([[0], [1], [0, 0]]);
    expect(choices.open.map(([index]) => index)).toEqual([0, 2]);
    expect(choices.emittedTokens).toBe(4);
    expect([choices.prefillTokens, choices.remainingTokens]).toEqual([2 + 2, 4]);
    // One that has ended keeps nothing of what still comes.
    choices.offer(token(1, 2), 1);
    expect(choices.hasGap).toBe(false);
    choices.offer(token(2, 4), 1);
    expect(choices.hasGap).toBe(true);
    choices.beginAttempt();
    expect(choices.hasGap).toBe(false);
  });

  it('of no tokens have ended before they begin', () => {
    const choices = new Choices([answer([], 0)]);
    expect([choices.open, choices.remainingTokens, choices.prefillTokens]).toEqual([[], 0, 2]);
  });
});

describe('choiceSeed', () => {
  it('is the seed plus the index, modulo 2^64', () => {
    expect([choiceSeed(7n, 0), choiceSeed(7n, 3), choiceSeed(2n ** 64n - 1n, 2)]).toEqual([7n, 10n, 1n]);
  });
});
