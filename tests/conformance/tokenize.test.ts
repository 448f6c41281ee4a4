/** vLLM's endpoints beside OpenAI's: /tokenize, /detokenize, /version. */
import type { Tokenizer } from '@causeway/model-files';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

const TEXT = 'Héllo 😀, wide river';
const messages = [{ role: 'user' as const, content: TEXT }];
let harness: Harness;
let tokenizer: Tokenizer;

beforeAll(async () => {
  [harness, tokenizer] = await Promise.all([startHarness(), testTokenizer()]);
});
afterAll(() => harness?.[Symbol.asyncDispose]());

interface Reply {
  status: number;
  body: { count: number; tokens: number[]; prompt: string; error: { code: string | null; param: string; message: string } };
}

async function post(path: string, body: unknown): Promise<Reply> {
  const response = await harness.post(path, body);
  expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
  return { status: response.status, body: (await response.json()) as Reply['body'] };
}

describe('/tokenize', () => {
  it('gives the ids of a text', async () => {
    const [plain, bare] = [tokenizer.encode(TEXT), tokenizer.encodeRendered(TEXT)];
    const rest = { max_model_len: 512, token_strs: null };
    expect(await post('/tokenize', { model: 'tiny-moe', prompt: TEXT })).toEqual({
      status: 200,
      body: { count: plain.length, tokens: plain, ...rest },
    });
    expect((await post('/tokenize', { prompt: TEXT, add_special_tokens: false })).body.tokens).toEqual(bare);
    expect((await post('/tokenize', { prompt: '', add_special_tokens: false })).body).toEqual({ count: 0, tokens: [], ...rest });
  });

  it('gives those of messages, as a prompt would have them', async () => {
    expect((await post('/tokenize', { messages })).body.tokens).toEqual(tokenizer.encodeChat(messages));
  });

  it.each([
    [{ prompt: TEXT, model: 'other' }, 404, 'model'],
    [{ prompt: 7 }, 400, 'prompt'],
    ['{', 400, null],
  ])('refuses %j', async (body, status, param) => {
    expect(await post('/tokenize', body)).toMatchObject({ status, body: { error: { param } } });
  });

  it('says which method it takes', async () => {
    const response = await fetch(`${harness.url}/tokenize`);
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST']);
  });
});

describe('/detokenize', () => {
  it('gives the text, special tokens by name', async () => {
    const { status, body } = await post('/detokenize', { model: 'tiny-moe', tokens: tokenizer.encodeChat(messages) });
    expect([status, body.prompt]).toEqual([200, tokenizer.renderChat(messages)]);
    expect((await post('/detokenize', { tokens: tokenizer.encodeRendered(TEXT) })).body).toEqual({ prompt: TEXT });
    expect((await post('/detokenize', { tokens: [] })).body).toEqual({ prompt: '' });
  });

  it('takes as many tokens as a body holds: more than the context', async () => {
    const [letter] = tokenizer.encodeRendered('a');
    const tokens = Array.from({ length: 100_000 }, () => letter);
    expect((await post('/detokenize', { tokens })).body.prompt).toHaveLength(100_000);
  });

  it('names a token that is none', async () => {
    const { status, body } = await post('/detokenize', { tokens: [1, 1 << 20] });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ param: 'tokens[1]', code: 'invalid_value' });
  });
});

it('/version says the version', async () => {
  const response = await fetch(`${harness.url}/version`);
  expect(await response.json()).toEqual({ version: expect.stringMatching(/^\d+\.\d+\.\d+$/) });
});
