import type { ModelInfo } from '@causeway/engine';
import { workerV1 } from '@causeway/proto';
import { describe, expect, test } from 'vitest';
import { generationFromProto } from './convert.ts';

const sampling = { temperature: 0.5, topP: 0.9, topK: 3, seed: 7n };
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
      sampling,
      firstPosition: 0,
      returnLogits: false,
      exactResume: false,
    });
  });

  test('takes over what is asked for: how a preempted sequence comes back, logits, ends', () => {
    const more = { exactResume: true, returnLogits: true, ignoreEos: true, stopTokenIds: [3], firstPosition: 2 };
    // As it crosses the wire.
    const sent = workerV1.Generation.decode(workerV1.Generation.encode({ ...message, ...more }).finish());
    expect(generationFromProto(sent, info, 100)).toMatchObject(more);
  });

  test.each([
    ['an empty prompt', { promptIds: [] }, 'empty_prompt'],
    ['an id outside the vocabulary', { replayIds: [6] }, 'invalid_token'],
    ['a prompt without room for an answer', { promptIds: Array.from({ length: 98 }, () => 0) }, 'prompt_too_long'],
    ['no tokens wanted', { maxTokens: 0 }, 'bad_request'],
    ['sampling out of range', { sampling: { ...sampling, topP: 0 } }, 'bad_sampling'],
    ['no sampling', { sampling: undefined }, 'bad_sampling'],
  ])('refuses %s', (_, change, reason) => {
    const refuse = () => generationFromProto({ ...message, ...change }, info, 100);
    expect(refuse).toThrow(expect.objectContaining({ code: 'invalid_argument', reason }));
  });
});
