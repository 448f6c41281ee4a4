import { ServiceError } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { parseCompletionRequest } from './completion-request.ts';

function refusal(input: unknown): ServiceError {
  try {
    parseCompletionRequest(input);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(input)}`);
}

describe('parseCompletionRequest', () => {
  it.each([
    ['Once', { kind: 'text', text: 'Once' }],
    [['Once'], { kind: 'text', text: 'Once' }],
    [[1, 2, 3], { kind: 'tokens', ids: [1, 2, 3] }],
    [[[1, 2, 3]], { kind: 'tokens', ids: [1, 2, 3] }],
  ])('reads the prompt %j', (prompt, expected) => {
    expect(parseCompletionRequest({ model: 'm', prompt }).prompt).toEqual(expected);
  });

  it.each([
    [undefined, 'bad_request', 'prompt'],
    ['', 'empty_prompt', 'prompt'],
    [[], 'empty_prompt', 'prompt'],
    [[''], 'empty_prompt', 'prompt[0]'],
    [[[]], 'empty_prompt', 'prompt[0]'],
    [7, 'bad_request', 'prompt'],
    [{}, 'bad_request', 'prompt'],
    [['a', 'b'], 'unsupported_parameter', 'prompt'],
    [[1, -1], 'invalid_token', 'prompt[1]'],
    [[1, 2.5], 'invalid_token', 'prompt[1]'],
    [[1, 'x'], 'invalid_token', 'prompt[1]'],
    [[1, 2 ** 32], 'invalid_token', 'prompt[1]'],
    [[[1, null]], 'invalid_token', 'prompt[0][1]'],
  ])('refuses the prompt %j: %s at %s', (prompt, reason, field) => {
    const error = refusal({ model: 'm', prompt });
    expect([error.reason, error.field]).toEqual([reason, field]);
  });

  it('names the bad id among many', () => {
    const prompt: unknown[] = Array.from({ length: 500_000 }, () => 5);
    prompt.push('x');
    expect(refusal({ model: 'm', prompt }).field).toBe('prompt[500000]');
  });

  it('takes half a surrogate pair for U+FFFD', () => {
    expect(parseCompletionRequest({ model: 'm', prompt: 'a\ud83d' }).prompt).toEqual({ kind: 'text', text: 'a\ufffd' });
  });

  it.each([
    [0, 0],
    [5, 5],
    [null, undefined],
  ])('reads logprobs %j', (logprobs, expected) => {
    expect(parseCompletionRequest({ model: 'm', prompt: 'x', logprobs }).options.logprobs).toBe(expected);
  });

  it.each([6, -1, 0.5, true, '1'])('refuses logprobs %j', (logprobs) => {
    expect(refusal({ model: 'm', prompt: 'x', logprobs })).toMatchObject({ reason: 'bad_request', field: 'logprobs' });
  });

  it.each(['best_of', 'echo', 'suffix', 'top_logprobs'])('refuses %s when it would change the answer', (field) => {
    const error = refusal({ model: 'm', prompt: 'x', [field]: field === 'suffix' ? 'end' : field === 'echo' ? true : 2 });
    expect([error.reason, error.field]).toEqual(['unsupported_parameter', field]);
  });
});
