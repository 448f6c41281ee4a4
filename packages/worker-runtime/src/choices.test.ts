import type { ModelInfo } from '@causeway/engine';
import { workerV1 } from '@causeway/proto';
import { describe, expect, test } from 'vitest';
import { choicesFromProto, firstTokenOptions, firstTokensOf } from './choices.ts';

const info = { name: 'm', vocabSize: 10 } as ModelInfo;
const sampling = workerV1.Sampling.fromPartial({ temperature: 0.5, topP: 0.9, seed: 7n });
const base = { promptIds: [1, 2, 3], replayIds: [4], maxTokens: 9, firstPosition: 1, sampling };
const choice = (index: number, more: Partial<workerV1.Choice> = {}): workerV1.Choice => ({
  index,
  seed: BigInt(index),
  replayIds: [],
  maxTokens: 5,
  firstPosition: 0,
  ...more,
});
const generation = (choices: workerV1.Choice[]): workerV1.Generation => workerV1.Generation.fromPartial({ ...base, choices });

describe('choicesFromProto', () => {
  test('none are one answer, by the fields of the generation', () => {
    const choices = choicesFromProto(generation([]), info, 100);
    expect(choices).toMatchObject([{ index: 0, generation: { replayIds: Uint32Array.of(4), maxTokens: 9, firstPosition: 1 } }]);
    expect(choices[0].generation.sampling.seed).toBe(7n);
  });

  test('each has its own seed, tokens, limit and position; the prompt is one array', () => {
    const continued = choice(5, { replayIds: [6, 7], maxTokens: 90, firstPosition: 2 });
    const choices = choicesFromProto(generation([choice(3), continued]), info, 20);
    expect(choices).toMatchObject([
      {
        index: 3,
        generation: { replayIds: new Uint32Array(0), maxTokens: 5, firstPosition: 0, sampling: { seed: 3n, topP: 0.9 } },
      },
      { index: 5, generation: { replayIds: Uint32Array.of(6, 7), maxTokens: 15, firstPosition: 2, sampling: { seed: 5n } } },
    ]);
    expect(choices[1]?.generation.promptIds).toBe(choices[0].generation.promptIds);
  });

  test.each([
    ['two of one index', [choice(1), choice(1)], 'bad_request'],
    ['more than there may be', Array.from({ length: 17 }, (_, i) => choice(i)), 'bad_request'],
    ['one without tokens', [choice(0), choice(1, { maxTokens: 0 })], 'bad_request'],
    ['one too long', [choice(0), choice(1, { replayIds: Array.from({ length: 17 }, () => 1) })], 'prompt_too_long'],
    ['one with an id outside the vocabulary', [choice(0), choice(1, { replayIds: [10] })], 'invalid_token'],
  ])('refuses %s', (_, choices, reason) => {
    const refuse = () => choicesFromProto(generation(choices), info, 20);
    expect(refuse).toThrow(expect.objectContaining({ code: 'invalid_argument', reason }));
  });
});

describe('first tokens in a manifest', () => {
  const topLogprobs = [{ id: 3, logprob: -0.5 }];
  const token = { id: 9, position: 0, logprob: -2, topLogprobs };

  test('come with their choices and log-probabilities, without logits', () => {
    const sent = firstTokenOptions([
      { index: 0, token: { ...token, logits: new Float32Array(9) } },
      { index: 4, token: { ...token, id: 8 } },
    ]);
    expect(sent.firstToken).toBe(9);
    expect(sent.firstTokenDetail?.length).toBeLessThan(80);
    expect([...firstTokensOf(sent, undefined, 10)]).toEqual([
      [0, { id: 9, logprob: -2, topLogprobs }],
      [4, { id: 8, logprob: -2, topLogprobs }],
    ]);
    // An id that no row of the model stands for is not believed.
    expect([...firstTokensOf(sent, undefined, 9).keys()]).toEqual([4]);
  });

  test('without detail are the id alone, of the only choice', () => {
    expect(firstTokenOptions([])).toEqual({});
    for (const firstTokenDetail of [undefined, Uint8Array.of(0xff, 0xff)]) {
      const sent = { firstToken: 7, ...(firstTokenDetail === undefined ? {} : { firstTokenDetail }) };
      expect([...firstTokensOf(sent, 2, 10)]).toEqual([[2, { id: 7, logprob: 0 }]]);
      expect([...firstTokensOf(sent, undefined, 10)]).toEqual([]);
      expect([...firstTokensOf(sent, 2, 7)]).toEqual([]);
    }
    expect([...firstTokensOf({}, 0, 10)]).toEqual([]);
  });
});
