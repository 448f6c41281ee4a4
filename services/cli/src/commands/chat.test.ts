import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, expect, test } from 'vitest';
import { runPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';
import { chat, type ChatOptions } from './chat.ts';

let server: Server | undefined;
const asked: { url: string; body: string; key: string | undefined }[] = [];

afterEach(() => {
  server?.close();
  asked.length = 0;
});

/** A router that serves these models and answers every chat in one word. */
async function router(models: unknown): Promise<string> {
  server = createServer((request, response) => void respond(request, response, models)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function respond(request: IncomingMessage, response: ServerResponse, models: unknown): Promise<void> {
  asked.push({ url: request.url ?? '', body: await text(request), key: request.headers.authorization });
  if (request.url === '/v1/models') {
    response.setHeader('content-type', 'application/json').end(JSON.stringify(models));
    return;
  }
  const kv = { outcome: 'used', bytes_raw: 1, bytes_sent: 1, codec: 'none', transfer_ms: 1, ttft_ms: 1 };
  const workers = { prefill_worker: 'p', prefill_chip: 'cpu', decode_worker: 'd', decode_chip: 'cpu' };
  const usage = { prompt_tokens: 1, completion_tokens: 1, causeway: { ...kv, ...workers } };
  const chunk = { choices: [{ delta: { content: 'White.' }, finish_reason: 'stop' }], usage };
  response.setHeader('content-type', 'text/event-stream').end(`data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n`);
}

/** One question through `chat`; what it showed. */
async function ask(options: Partial<ChatOptions>): Promise<{ code: number; shown: string }> {
  let shown = '';
  const add = (text = ''): void => void (shown += text);
  const plain = (text: string): string => text;
  const out: Output = { terminal: false, write: add, line: add, warn: add, dim: plain, bold: plain, red: plain };
  const input = new PassThrough();
  input.end('What color is snow?\n');
  const none = {
    url: undefined,
    model: undefined,
    system: undefined,
    maxTokens: undefined,
    temperature: undefined,
    apiKey: undefined,
  };
  const code = await chat(
    { ...none, ...options },
    {
      paths: runPaths('/nonexistent'),
      out,
      input: input as unknown as NodeJS.ReadStream,
      output: new PassThrough() as unknown as NodeJS.WriteStream,
    },
  );
  return { code, shown };
}

function modelAsked(): string {
  const { body } = asked.find(({ url }) => url === '/v1/chat/completions') ?? { body: '{}' };
  return (JSON.parse(body) as { model: string }).model;
}

test.each(['', '/', '/v1', '/v1/'])('of another router (URL ends in "%s") the first model is taken', async (end) => {
  const url = await router({ object: 'list', data: [{ id: 'llama-x' }, { id: 'other' }] });
  expect(await ask({ url: url + end })).toMatchObject({ code: 0, shown: expect.stringMatching(/^White\./) });
  expect(asked.map((request) => request.url)).toEqual(['/v1/models', '/v1/chat/completions']);
  expect(modelAsked()).toBe('llama-x');
});

test('a model that is named is not looked up', async () => {
  const url = await router({ data: [] });
  expect((await ask({ url, model: 'mine' })).code).toBe(0);
  expect(asked.map((request) => request.url)).toEqual(['/v1/chat/completions']);
  expect(modelAsked()).toBe('mine');
});

test.each([
  [{ object: 'list', data: [] }, /serves no model now/],
  ['hello', /\/v1\/models is no list of models: "hello"/],
])('a router that lists %j is refused with the reason', async (models, expected) => {
  const url = await router(models);
  await expect(ask({ url })).rejects.toThrow(expected);
});

test('where nobody answers, it says so', async () => {
  await expect(ask({ url: 'http://127.0.0.1:9' })).rejects.toThrow(/no router answers at http:\/\/127\.0\.0\.1:9 \(/);
});

test('a key is sent with every request', async () => {
  const url = await router({ data: [{ id: 'm' }] });
  expect((await ask({ url, apiKey: 'sk-1' })).code).toBe(0);
  expect(asked.map(({ key }) => key)).toEqual(['Bearer sk-1', 'Bearer sk-1']);
});
