import { ServiceError } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { parseDetokenizeRequest, parseTokenizeRequest } from './tokenize-request.ts';

function refusal(work: () => unknown): Pick<ServiceError, 'reason' | 'field'> {
  try {
    work();
  } catch (error) {
    if (error instanceof ServiceError) return { reason: error.reason, field: error.field };
    throw error;
  }
  throw new Error('accepted');
}

const messages = [{ role: 'user', content: 'hi' }];

describe('parseTokenizeRequest', () => {
  it("reads vLLM's two forms with their defaults", () => {
    expect(parseTokenizeRequest({ prompt: '' })).toEqual({ model: undefined, input: { kind: 'text', text: '' }, special: true });
    expect(parseTokenizeRequest({ model: 'm', messages, add_generation_prompt: true, prompt: null })).toEqual({
      model: 'm',
      input: { kind: 'chat', messages, template: { tools: [], variables: {} } },
      special: false,
    });
    expect(parseTokenizeRequest({ prompt: 'a\ud83d', add_special_tokens: false })).toMatchObject({
      input: { text: 'a\ufffd' },
      special: false,
    });
  });

  it.each([
    [{}, 'bad_request', 'prompt'],
    [{ prompt: ['x'] }, 'bad_request', 'prompt'],
    [{ prompt: 'x', messages }, 'bad_request', 'prompt'],
    [{ messages: [] }, 'empty_prompt', 'messages'],
    [{ messages, add_generation_prompt: false }, 'unsupported_parameter', 'add_generation_prompt'],
    [{ prompt: 'x', add_special_tokens: 1 }, 'bad_request', 'add_special_tokens'],
    [{ prompt: 'x', return_token_strs: true }, 'unsupported_parameter', 'return_token_strs'],
    [{ prompt: 'x', model: 7 }, 'bad_request', 'model'],
    [{ prompt: 'x', model: '' }, 'bad_request', 'model'],
    [[], 'bad_request', undefined],
  ])('refuses %j: %s at %s', (body, reason, field) => {
    expect(refusal(() => parseTokenizeRequest(body))).toEqual({ reason, field });
  });
});

describe('parseDetokenizeRequest', () => {
  it('reads ids', () => {
    expect(parseDetokenizeRequest({ tokens: [1, 0] })).toEqual({ model: undefined, tokens: [1, 0] });
    expect(parseDetokenizeRequest({ model: 'm', tokens: [] })).toEqual({ model: 'm', tokens: [] });
  });

  it.each([
    [{}, 'tokens'],
    [{ tokens: 'x' }, 'tokens'],
    [{ tokens: [1, -1] }, 'tokens[1]'],
    [{ tokens: [1, null] }, 'tokens[1]'],
    [{ tokens: [2 ** 32] }, 'tokens[0]'],
  ])('refuses %j at %s', (body, field) => {
    expect(refusal(() => parseDetokenizeRequest(body))).toEqual({ reason: 'bad_request', field });
  });
});
