/** What is refused before a route is found: the same error bodies, request ids and counts as anywhere else. Over raw sockets. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

const MAX_BODY = 64 * 1024;

let harness: Harness;

beforeAll(async () => {
  harness = await startHarness({ env: { CAUSEWAY_MAX_BODY_BYTES: String(MAX_BODY) } });
});
afterAll(() => harness?.[Symbol.asyncDispose]());

interface RawAnswer {
  status: number;
  headers: Headers;
  body: string;
}

/** Writes the text to a new connection and reads the answer until the server closes, or the body is whole. */
async function raw(text: string): Promise<RawAnswer> {
  const { hostname, port } = new URL(harness.url);
  const socket = connect(Number(port), hostname);
  socket.setEncoding('utf8');
  let all = '';
  socket.on('data', (chunk: string) => (all += chunk));
  await once(socket, 'connect');
  socket.write(text);
  const ended = once(socket, 'close');
  const whole = async (): Promise<void> => {
    for (;;) {
      const answer = parse(all);
      if (answer !== undefined && answer.body.length >= Number(answer.headers.get('content-length') ?? Infinity)) return;
      await once(socket, 'data');
    }
  };
  await Promise.race([ended, whole()]);
  socket.destroy();
  const answer = parse(all);
  if (answer === undefined) throw new Error(`no answer but: ${all}`);
  return answer;
}

function parse(text: string): RawAnswer | undefined {
  const cut = text.indexOf('\r\n\r\n');
  if (cut === -1) return undefined;
  const [status = '', ...lines] = text.slice(0, cut).split('\r\n');
  const pairs = lines.map((line): [string, string] => [
    line.slice(0, line.indexOf(':')),
    line.slice(line.indexOf(':') + 1).trim(),
  ]);
  return { status: Number(status.split(' ')[1]), headers: new Headers(pairs), body: text.slice(cut + 4) };
}

/** The `error` object in a body; Node writes bodies without a length in chunks. */
function errorOf(answer: RawAnswer): Record<string, unknown> {
  const json = answer.body.slice(answer.body.indexOf('{'), answer.body.lastIndexOf('}') + 1);
  return (JSON.parse(json) as { error: Record<string, unknown> }).error;
}

async function counted(outcome: string): Promise<number> {
  const text = await (await fetch(`http://${harness.observability}/metrics`)).text();
  return Number(new RegExp(`^causeway_router_requests_total\\{outcome="${outcome}"\\} (.*)$`, 'm').exec(text)?.[1] ?? 0);
}

const HOST = 'host: x\r\n';
const JSON_TYPE = 'content-type: application/json\r\n';
const post = (path: string, body: string, more = ''): string =>
  `POST ${path} HTTP/1.1\r\n${HOST}${JSON_TYPE}${more}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

describe('a request that reaches no handler', () => {
  it.each([
    ['a path that is no URL', `GET /v1/models/%zz HTTP/1.1\r\n${HOST}\r\n`, 400, 'bad_request', null],
    ['an unknown method', `FROB /v1/models HTTP/1.1\r\n${HOST}\r\n`, 400, 'bad_request', null],
    ['no HTTP at all', '\x16\x03\x01 hello\r\n\r\n', 400, 'bad_request', null],
    ['a header without a colon', `GET / HTTP/1.1\r\n${HOST}rubbish\r\n\r\n`, 400, 'bad_request', null],
    ['too large headers', `GET / HTTP/1.1\r\n${HOST}x: ${'y'.repeat(100_000)}\r\n\r\n`, 431, 'headers_too_large', null],
    ['no Host', 'GET /v1/models HTTP/1.1\r\n\r\n', 400, 'bad_request', null],
    ['an expectation', post('/v1/completions', '{}', 'expect: a miracle\r\n'), 417, 'expectation_failed', null],
    ['bad JSON', post('/v1/completions', '{"model"'), 400, 'bad_json', null],
    ['no body and no type', `POST /v1/completions HTTP/1.1\r\n${HOST}content-length: 0\r\n\r\n`, 400, 'bad_json', null],
    [
      'a body that is too large',
      `POST /v1/completions HTTP/1.1\r\n${HOST}${JSON_TYPE}content-length: ${MAX_BODY + 1}\r\n\r\n`,
      413,
      'body_too_large',
      null,
    ],
    [
      'another media type',
      `POST /v1/completions HTTP/1.1\r\n${HOST}content-type: text/plain\r\ncontent-length: 1\r\n\r\nx`,
      415,
      'unsupported_media_type',
      null,
    ],
    ['a path that is not served', `GET /v2 HTTP/1.1\r\n${HOST}\r\n`, 404, 'not_found', null],
    ['GET of an endpoint', `GET /v1/chat/completions?x=1 HTTP/1.1\r\n${HOST}\r\n`, 405, 'method_not_allowed', 'POST'],
    ['PUT with a body', post('/v1/completions', '{}').replace('POST', 'PUT'), 405, 'method_not_allowed', 'POST'],
    ['a method of WebDAV', `PROPFIND /v1/models/x HTTP/1.1\r\n${HOST}\r\n`, 405, 'method_not_allowed', 'GET, HEAD'],
    ['DELETE of a model', `DELETE /v1/models/tiny-moe HTTP/1.1\r\n${HOST}\r\n`, 405, 'method_not_allowed', 'GET, HEAD'],
    ['POST to health', post('/readyz', ''), 405, 'method_not_allowed', 'GET, HEAD'],
  ])('%s: an error body, a request id, a count', async (_what, text, status, reason, allow) => {
    const before = await counted(reason);
    const answer = await raw(text);
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
    expect(answer.headers.get('x-causeway-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(answer.headers.get('allow')).toBe(allow);
    const error = errorOf(answer);
    expect(error).toMatchObject({ reason, param: null, type: 'invalid_request_error' });
    expect(error['message']).not.toBe('');
    expect(await counted(reason)).toBe(before + 1);
  });

  it("carries the client's request id where one could be read", async () => {
    const id = 'x-causeway-request-id: edge-1\r\n';
    for (const text of [
      `GET /v1/models/%zz HTTP/1.1\r\n${HOST}${id}\r\n`,
      `GET /v1/models HTTP/1.1\r\n${id}\r\n`,
      post('/v1/completions', '{}', `expect: a miracle\r\n${id}`),
    ]) {
      expect((await raw(text)).headers.get('x-causeway-request-id')).toBe('edge-1');
    }
  });

  it("counts a handler's refusal once, with the codes that OpenAI's clients branch on", async () => {
    const refused = async (body: object): Promise<Record<string, unknown>> => {
      const response = await harness.post('/v1/completions', body);
      return ((await response.json()) as { error: Record<string, unknown> }).error;
    };
    const before = await Promise.all([counted('unknown_model'), counted('prompt_too_long')]);
    expect(await refused({ model: 'gpt-9', prompt: 'x' })).toMatchObject({ code: 'model_not_found', reason: 'unknown_model' });
    const prompt = Array.from({ length: 600 }, () => 5);
    expect(await refused({ model: 'tiny-moe', prompt })).toMatchObject({
      code: 'context_length_exceeded',
      reason: 'prompt_too_long',
    });
    expect(await Promise.all([counted('unknown_model'), counted('prompt_too_long')])).toEqual(before.map((count) => count + 1));
  });

  it('leaves the server in order', async () => {
    expect((await fetch(`${harness.url}/livez`)).status).toBe(200);
    expect((await fetch(`${harness.url}/v1/models`, { method: 'HEAD' })).status).toBe(200);
    expect(harness.fabric.events).toEqual([]);
  });
});

describe('a request of odd values', () => {
  afterEach(() => harness.quiet());

  it('reads bytes that are no UTF-8 as U+FFFD, as it does halves of surrogate pairs', async () => {
    harness.play({ answer: [1] });
    const body = Buffer.concat([Buffer.from('{"model":"tiny-moe","prompt":"a'), Buffer.from([0xff, 0xc3]), Buffer.from('b"}')]);
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${harness.url}/v1/completions`, { method: 'POST', headers, body });
    expect(response.status).toBe(200);
    const prompt = harness.fabric.of('reserve')[0]?.generation?.promptIds ?? [];
    expect((await testTokenizer()).decode(prompt)).toBe('a\u{fffd}\u{fffd}b');
  });

  it('cuts a limit beyond all contexts to what the context has room for', async () => {
    harness.play({ answer: [1] });
    for (const limit of [513, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      const body = { model: 'tiny-moe', prompt: [5, 6, 7], max_tokens: limit };
      expect((await harness.post('/v1/completions', body)).status).toBe(200);
      expect(harness.fabric.of('reserve').at(-1)?.generation?.maxTokens).toBe(509);
    }
    const refused = await harness.post('/v1/completions', { model: 'tiny-moe', prompt: [5], max_tokens: 1e300 });
    expect([refused.status, await refused.json()]).toMatchObject([400, { error: { param: 'max_tokens' } }]);
  });
});
