import type { ModelInfo } from '@causeway/engine';
import { workerV1 } from '@causeway/proto';
import { describe, expect, test } from 'vitest';
import { generationFromProto, tokenFromProto, tokenToProto } from './convert.ts';

const plain = { temperature: 0.5, topP: 0.9, topK: 3, seed: 7n };
const sampling = workerV1.Sampling.fromPartial(plain);
const message = workerV1.Generation.fromPartial({ promptIds: [1, 2, 3], replayIds: [4, 5], maxTokens: 9, sampling });
const info = { name: 'm', vocabSize: 6 } as ModelInfo;

describe('generationFromProto', () => {
  test('takes a generation over, its answer cut to the context', () => {
    expect(generationFromProto(message, info, 12)).toEqual({
      promptIds: Uint32Array.of(1, 2, 3),
      replayIds: Uint32Array.of(4, 5),
      maxTokens: 7,
      stopTokenIds: [],
      ignoreEos: false,
      minTokens: 0,
      sampling: { ...plain, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: [] },
      topLogprobs: 0,
      firstPosition: 0,
      returnLogits: false,
      exactResume: false,
    });
  });

  test('takes over what is asked for: how a preempted sequence comes back, logits, ends', () => {
    const sampled = {
      ...plain,
      minP: 0.1,
      repetitionPenalty: 1.5,
      presencePenalty: -1,
      frequencyPenalty: 0.5,
      logitBias: [{ id: 4, bias: -100 }],
    };
    const ends = { ignoreEos: true, stopTokenIds: [3], firstPosition: 2 };
    const more = { exactResume: true, returnLogits: true, topLogprobs: 5, sampling: sampled, ...ends };
    // As it crosses the wire.
    const sent = workerV1.Generation.decode(workerV1.Generation.encode({ ...message, ...more }).finish());
    expect(generationFromProto(sent, info, 100)).toMatchObject(more);
  });

  test.each([
    [{ $case: 'jsonObject' as const, value: true }, { kind: 'json_object' }],
    [
      { $case: 'jsonSchema' as const, value: '{}' },
      { kind: 'json_schema', schema: '{}' },
    ],
    [
      { $case: 'regex' as const, value: 'a' },
      { kind: 'regex', pattern: 'a' },
    ],
    [
      { $case: 'choices' as const, value: { texts: ['a', 'b'] } },
      { kind: 'choice', choices: ['a', 'b'] },
    ],
  ])('takes over what the answer is held to: %j', (body, constraint) => {
    const sentWith = (more: object) => {
      const wire = { ...message, constraint: workerV1.Constraint.fromPartial({ body, ...more }) };
      return generationFromProto(workerV1.Generation.decode(workerV1.Generation.encode(wire).finish()), info, 100).constraint;
    };
    expect(sentWith({})).toEqual(constraint);
    const around = { prefix: 'x', suffix: 'y', thinking: { begin: '<a>', end: '</a>', begun: true } };
    expect(sentWith(around)).toEqual({ ...constraint, ...around });
  });

  test.each([
    ['an empty prompt', { promptIds: [] }, 'empty_prompt'],
    ['an id outside the vocabulary', { replayIds: [6] }, 'invalid_token'],
    ['a prompt without room for an answer', { promptIds: Array.from({ length: 98 }, () => 0) }, 'prompt_too_long'],
    ['no tokens wanted', { maxTokens: 0 }, 'bad_request'],
    ['sampling out of range', { sampling: { ...sampling, topP: 0 } }, 'bad_sampling'],
    ['a constraint that says nothing', { constraint: workerV1.Constraint.fromPartial({ prefix: 'x' }) }, 'bad_request'],
    ['no sampling', { sampling: undefined }, 'bad_sampling'],
  ])('refuses %s', (_, change, reason) => {
    const refuse = () => generationFromProto({ ...message, ...change }, info, 100);
    expect(refuse).toThrow(expect.objectContaining({ code: 'invalid_argument', reason }));
  });
});

describe('log-probabilities', () => {
  const topLogprobs = [
    { id: 4, logprob: -0.25 },
    { id: 9, logprob: -2 },
  ];
  const first = { id: 9, position: 0, logprob: -2, topLogprobs };

  test('cross the wire with their token', () => {
    const bytes = workerV1.Token.encode(tokenToProto(first, 1)).finish();
    expect(tokenFromProto(workerV1.Token.decode(bytes))).toEqual(first);
  });
});
