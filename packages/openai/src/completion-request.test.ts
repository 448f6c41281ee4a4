import { ServiceError } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { MAX_PROMPTS, parseCompletionRequest } from './completion-request.ts';
import { MAX_CHOICES } from './sampling-fields.ts';

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
    expect(parseCompletionRequest({ model: 'm', prompt }).prompts).toEqual([expected]);
  });

  it('reads several prompts, texts and token ids', () => {
    const { prompts } = parseCompletionRequest({ model: 'm', prompt: ['a', [1, 2], 'b\ud83d'] });
    expect(prompts).toEqual([
      { kind: 'text', text: 'a' },
      { kind: 'tokens', ids: [1, 2] },
      { kind: 'text', text: 'b\ufffd' },
    ]);
    const many = Array.from({ length: MAX_PROMPTS }, () => 'x');
    expect(parseCompletionRequest({ model: 'm', prompt: many }).prompts).toHaveLength(MAX_PROMPTS);
    expect(refusal({ model: 'm', prompt: [...many, 'x'] })).toMatchObject({ reason: 'bad_request', field: 'prompt' });
  });

  it.each([
    [undefined, 'bad_request', 'prompt'],
    ['', 'empty_prompt', 'prompt'],
    [[], 'empty_prompt', 'prompt'],
    [[''], 'empty_prompt', 'prompt[0]'],
    [[[]], 'empty_prompt', 'prompt[0]'],
    [7, 'bad_request', 'prompt'],
    [{}, 'bad_request', 'prompt'],
    [['a', ''], 'empty_prompt', 'prompt[1]'],
    [['a', 7], 'bad_request', 'prompt[1]'],
    [[[1], [2, -3]], 'invalid_token', 'prompt[1][1]'],
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
    expect(parseCompletionRequest({ model: 'm', prompt: 'a\ud83d' }).prompts).toEqual([{ kind: 'text', text: 'a\ufffd' }]);
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

  it('reads n, best_of when it says the same, and echo', () => {
    const options = (more: object) => parseCompletionRequest({ model: 'm', prompt: 'x', ...more }).options;
    expect(options({})).toMatchObject({ n: 1, echo: false });
    expect(options({ n: null, best_of: 1, echo: null })).toMatchObject({ n: 1, echo: false });
    expect(options({ n: 3, best_of: 3, echo: true, max_tokens: 0 })).toMatchObject({ n: 3, echo: true, maxTokens: 0 });
  });

  it.each([
    [{ n: 0 }, 'bad_request', 'n'],
    [{ n: MAX_CHOICES + 1 }, 'bad_request', 'n'],
    [{ n: 1.5 }, 'bad_request', 'n'],
    [{ n: '2' }, 'bad_request', 'n'],
    [{ n: 2, best_of: 3 }, 'unsupported_parameter', 'best_of'],
    [{ n: 2, best_of: 1 }, 'unsupported_parameter', 'best_of'],
    [{ best_of: 'x' }, 'bad_request', 'best_of'],
    [{ echo: 1 }, 'bad_request', 'echo'],
    [{ max_tokens: 0 }, 'bad_request', 'max_tokens'],
    [{ max_tokens: -1, echo: true }, 'bad_request', 'max_tokens'],
  ])('refuses %j: %s at %s', (more, reason, field) => {
    const error = refusal({ model: 'm', prompt: 'x', ...more });
    expect([error.reason, error.field]).toEqual([reason, field]);
  });

  it.each(['best_of', 'suffix', 'top_logprobs'])('refuses %s when it would change the answer', (field) => {
    const error = refusal({ model: 'm', prompt: 'x', [field]: field === 'suffix' ? 'end' : 2 });
    expect([error.reason, error.field]).toEqual(['unsupported_parameter', field]);
  });
});
