import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness } from './harness.ts';

const messages = [{ role: 'user', content: 'hi' }];
const chat = { model: 'tiny-moe', messages };
const MAX_BODY = 64 * 1024;

let harness: Harness;

beforeAll(async () => {
  harness = await startHarness({ worker: { contextLength: 64 }, env: { CAUSEWAY_MAX_BODY_BYTES: String(MAX_BODY) } });
});
afterAll(() => harness?.[Symbol.asyncDispose]());

interface Refusal {
  status: number;
  error: { message: string; type: string; param: string | null; code: string | null; reason: string };
}

async function refusal(path: string, body: unknown): Promise<Refusal> {
  const response = await harness.post(path, body);
  expect(response.headers.get('x-causeway-request-id')).toBeTruthy();
  return { status: response.status, ...((await response.json()) as Omit<Refusal, 'status'>) };
}

describe('a request that cannot be served', () => {
  it.each([
    ['/v1/chat/completions', '{"model": "tiny-moe", "messages": [', 400, 'bad_json', null, 'not JSON'],
    ['/v1/chat/completions', '', 400, 'bad_json', null, 'empty'],
    ['/v1/chat/completions', '[]', 400, 'bad_request', null, 'JSON object'],
    ['/v1/chat/completions', { messages }, 400, 'bad_request', 'model', 'required'],
    ['/v1/chat/completions', { ...chat, model: 'gpt-9' }, 404, 'unknown_model', 'model', 'tiny-moe'],
    ['/v1/chat/completions', { ...chat, messages: [] }, 400, 'empty_prompt', 'messages', 'no message'],
    ['/v1/chat/completions', { ...chat, temperature: 3 }, 400, 'bad_sampling', 'temperature', 'from 0 to 2'],
    ['/v1/chat/completions', { ...chat, tools: [{}] }, 400, 'bad_request', 'tools[0].type', '"function"'],
    [
      '/v1/chat/completions',
      { ...chat, tools: [{ type: 'function', function: { name: 'f' } }] },
      400,
      'unsupported_parameter',
      'tools',
      'does not know tools',
    ],
    [
      '/v1/chat/completions',
      { ...chat, messages: [{ role: 'user', content: 'word '.repeat(200) }] },
      400,
      'prompt_too_long',
      'messages',
      '64',
    ],
    [
      '/v1/chat/completions',
      {
        ...chat,
        response_format: { type: 'json_schema', json_schema: { name: 'n', schema: { properties: { a: { not: {} } } } } },
      },
      400,
      'unsupported_parameter',
      'response_format.json_schema.schema',
      '"not" at #/properties/a is not supported',
    ],
    ['/v1/chat/completions', { ...chat, guided_json: { type: 'objekt' } }, 400, 'bad_request', 'guided_json', '"type" at #'],
    ['/v1/chat/completions', { ...chat, guided_regex: '(a' }, 400, 'bad_request', 'guided_regex', 'no regular expression'],
    [
      '/v1/completions',
      { model: 'tiny-moe', prompt: 'hi', response_format: { type: 'json_object' }, ignore_eos: true },
      400,
      'bad_request',
      'ignore_eos',
      'the document ends the answer',
    ],
    [
      '/v1/chat/completions',
      { ...chat, guided_choice: ['a', 'b'], min_tokens: 3 },
      400,
      'bad_request',
      'min_tokens',
      'the document ends the answer',
    ],
    ['/v1/chat/completions', { ...chat, min_tokens: -1 }, 400, 'bad_request', 'min_tokens', '0 or more'],
    ['/v1/chat/completions', { ...chat, min_tokens: 5, max_tokens: 4 }, 400, 'bad_request', 'min_tokens', 'limit, 4'],
    ['/v1/completions', { model: 'tiny-moe', prompt: '' }, 400, 'empty_prompt', 'prompt', 'empty'],
    ['/v1/completions', { model: 'tiny-moe', prompt: [1, 99_999] }, 400, 'invalid_token', 'prompt[1]', '2048'],
    [
      '/v1/completions',
      { model: 'tiny-moe', prompt: Array.from({ length: 64 }, () => 5) },
      400,
      'prompt_too_long',
      'prompt',
      '64 tokens',
    ],
    ['/v1/chat/completions', { ...chat, user: 'x'.repeat(MAX_BODY) }, 413, 'body_too_large', null, String(MAX_BODY)],
    ['/v1/nothing', {}, 404, 'not_found', null, '/v1/nothing'],
  ])('POST %s %j', async (path, body, status, reason, param, text) => {
    const answer = await refusal(path, body);
    expect([answer.status, answer.error.reason, answer.error.param]).toEqual([status, reason, param]);
    expect(answer.error.message).toContain(text);
  });

  it('names the prompt length and the limit', async () => {
    const { error } = await refusal('/v1/completions', { model: 'tiny-moe', prompt: Array.from({ length: 100 }, () => 5) });
    expect(error.message).toContain('100 tokens');
    expect(error.message).toContain('64');
  });

  it('is refused as unsupported media type when it is no JSON', async () => {
    const response = await fetch(`${harness.url}/v1/completions`, {
      method: 'POST',
      body: 'a=b',
      headers: { 'content-type': 'text/plain' },
    });
    expect(response.status).toBe(415);
    expect(await response.json()).toMatchObject({ error: { message: expect.stringContaining('application/json') as string } });
  });

  it('has queued nothing and reached no worker', () => {
    expect(harness.fabric.events).toEqual([]);
  });

  it('keeps a usable request id of the client and replaces a hostile one', async () => {
    const id = async (sent: string): Promise<string | null> => {
      const response = await fetch(`${harness.url}/v1/models`, { headers: { 'x-causeway-request-id': sent } });
      return response.headers.get('x-causeway-request-id');
    };
    expect(await id('trace-42')).toBe('trace-42');
    expect(await id('no spaces please')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('survives a client that goes away in the middle of its body', async () => {
    const { hostname, port } = new URL(harness.url);
    await new Promise<void>((resolve) => {
      const cut = request({
        hostname,
        port,
        method: 'POST',
        path: '/v1/completions',
        headers: { 'content-type': 'application/json', 'content-length': '1000' },
      });
      cut.on('error', () => resolve());
      cut.write('{"model":', () => cut.destroy(new Error('gone')));
    });
    expect((await fetch(`${harness.url}/livez`)).status).toBe(200);
  });
});
