/**
 * Requests of the largest size that are made to be slow: whatever they hold, the router's event loop is never held for more than
 * 5 ms of CPU time (its own instrumentation), and each is answered by a refusal that names the field.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

const MIB = 1024 * 1024;

let harness: Harness;

beforeAll(async () => {
  harness = await startHarness({ env: { CAUSEWAY_WATCH_SECTIONS: 'on' } });
  harness.play({ answer: (await testTokenizer()).encode('fine') });
  // What a first request compiles is no attack.
  for (let i = 0; i < 5; i++) {
    expect((await harness.post('/v1/completions', { model: 'tiny-moe', prompt: 'warm up '.repeat(100) })).status).toBe(200);
    expect((await harness.post('/v1/completions', { model: 'tiny-moe', prompt: [1], x: 'y'.repeat(100_000) })).status).toBe(200);
    expect((await harness.post('/v1/completions', { model: 'tiny-moe', prompt: [-1], x: 'y'.repeat(100_000) })).status).toBe(400);
  }
});
afterAll(() => harness?.[Symbol.asyncDispose]());

const HEAD = '"model":"tiny-moe","max_tokens":1';
const HELLO = '"messages":[{"role":"user","content":"hi"}]';

/** `open`, as many items as fit into the limit, `close`. */
function filled(open: string, item: string, close: string): string {
  const count = Math.floor((MIB - open.length - close.length) / (item.length + 1));
  return open + Array.from({ length: count }, () => item).join(',') + close;
}

const each = <T>(count: number, item: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => item(i));
const list = (item: string, count: number): string => `[${Array.from({ length: count }, () => item).join(',')}]`;

const CHAT: [what: string, body: string, status: number, param: string | null][] = [
  [
    'content parts that are numbers',
    filled(`{${HEAD},"messages":[`, `{"role":"user","content":${list('1', 1000)}}`, ']}'),
    400,
    'messages[0].content[0]',
  ],
  ['messages that are numbers', filled(`{${HEAD},"messages":[`, '1', ']}'), 400, 'messages'],
  ['empty messages', filled(`{${HEAD},"messages":[`, '{}', ']}'), 400, 'messages'],
  [
    'as many text parts as are taken',
    filled(`{${HEAD},"messages":[`, `{"role":"user","content":${list('{"type":"text","text":"hello"}', 1000)}}`, ']}'),
    400,
    'messages',
  ],
  ['as many messages as are taken', `{${HEAD},"messages":${list('{"role":"user","content":"hello"}', 4096)}}`, 400, 'messages'],
  ['deep lists in an ignored field', `{${HEAD},${HELLO},"x":${'['.repeat(500_000)}${']'.repeat(500_000)}}`, 200, null],
  ['deep objects in an ignored field', `{${HEAD},${HELLO},"x":${'{"a":'.repeat(170_000)}1${'}'.repeat(170_000)}}`, 200, null],
  [
    'a hundred thousand fields',
    `{${HEAD},${HELLO},${Array.from({ length: 90_000 }, (_, i) => `"${i.toString(36)}":1`).join(',')}}`,
    200,
    null,
  ],
  ['stop strings that are numbers', filled(`{${HEAD},${HELLO},"stop":[`, '1', ']}'), 400, 'stop'],
  ['stop tokens', filled(`{${HEAD},${HELLO},"stop_token_ids":[`, '1', ']}'), 400, 'stop_token_ids'],
  ['a text of a megabyte', `{${HEAD},"messages":[{"role":"user","content":"${'abcdefghij'.repeat(104_000)}"}]}`, 400, 'messages'],
  ['brackets that never close', `{${HEAD},"x":${'['.repeat(MIB - 60)}`, 400, null],
];
const COMPLETION: typeof CHAT = [
  ['token ids', filled(`{${HEAD},"prompt":[`, '5', ']}'), 400, 'prompt'],
  ['a bad token id at the end', filled(`{${HEAD},"prompt":[`, '5', ',-1]}'), 400, null],
  ['a text of a megabyte', `{${HEAD},"prompt":"${'word '.repeat(209_000)}"}`, 400, 'prompt'],
  ['prompts', filled(`{${HEAD},"prompt":[`, '"a"', ']}'), 400, 'prompt'],
];

/** What is part of serving the request is long in every round; a compilation or a marking step of V8's own is in one. */
const ROUNDS = 4;
const REQUESTS_EACH = 3;

/** Repeats the requests: at most one round may have a long section of the event loop; each request may expect what it likes. */
async function expectFreeLoop(request: () => Promise<void>): Promise<void> {
  const longSections = (): Promise<number> => harness.metric('causeway_event_loop_long_sections_total');
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS && rounds.filter((long) => long === 0).length < ROUNDS - 1; round++) {
    const before = await longSections();
    for (let i = 0; i < REQUESTS_EACH; i++) await request();
    // A section is counted a little later: the news of garbage collections are waited for.
    await sleep(200);
    rounds.push((await longSections()) - before);
  }
  const seen = harness.router.lines.filter((line) => line.includes('"what":"section"'));
  expect(rounds.filter((long) => long > 0).length, `${rounds.join(', ')}\n${seen.slice(-10).join('\n')}`).toBeLessThan(2);
}

describe('a hostile request', () => {
  it.each([
    ...CHAT.map(([what, ...rest]) => [what, '/v1/chat/completions', ...rest] as const),
    ...COMPLETION.map(([what, ...rest]) => [what, '/v1/completions', ...rest] as const),
  ])('%s: POST %s holds the event loop for less than 5 ms', async (_what, path, body, status, param) => {
    expect(body.length).toBeGreaterThan(100_000);
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(MIB);
    await expectFreeLoop(async () => {
      const response = await harness.post(path, body);
      const answer = (await response.json()) as { error?: { param: string | null } };
      expect([response.status, param === null ? null : answer.error?.param]).toEqual([status, param]);
    });
  });

  it.each([
    ['deep', `${'{"items":'.repeat(60)}{}${'}'.repeat(60)}`, 200],
    ['that has no end', '{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}', 400],
    ['whose patterns are hard', JSON.stringify({ anyOf: each(20, (i) => ({ pattern: `(a|aa){0,${900 + i}}b` })) }), 400],
    ['that counts', JSON.stringify({ type: 'array', items: { type: 'string', maxLength: 9000 }, maxItems: 9000 }), 200],
    ['that counts too much', JSON.stringify({ items: { items: { maxItems: 90_000 }, minItems: 99_999 } }), 400],
    ['that multiplies', JSON.stringify({ allOf: each(16, (i) => ({ anyOf: [{ maxLength: i + 1 }, { minLength: i }] })) }), 400],
    [
      'of Unicode properties',
      JSON.stringify({
        anyOf: each(30, (i) => ({ pattern: `\\p{L}{${i}}\\p{Lu}\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{M}\\p{Nd}` })),
      }),
      400,
    ],
  ])('a small schema %s: holds the event loop for less than 5 ms', async (_what, schema, status) => {
    const format = { type: 'json_schema', json_schema: { name: 'n', schema: JSON.parse(schema) as object } };
    const body = { model: 'tiny-moe', max_tokens: 1, messages: [{ role: 'user', content: 'hi' }], response_format: format };
    await expectFreeLoop(async () => {
      const response = await harness.post('/v1/chat/completions', body);
      await response.text();
      expect(response.status).toBe(status);
    });
  });

  it.each([
    [
      'empty messages',
      {
        input: {
          $case: 'messages' as const,
          value: { messages: Array.from({ length: 500_000 }, () => ({ role: '', content: '' })) },
        },
      },
      'bad_request',
    ],
    [
      'token ids',
      { input: { $case: 'tokenIds' as const, value: { ids: Array.from({ length: 1_000_000 }, () => 5) } } },
      'prompt_too_long',
    ],
    ['a text of a megabyte', { input: { $case: 'prompt' as const, value: 'abcdefghij'.repeat(104_000) } }, 'prompt_too_long'],
    [
      'stop strings',
      { input: { $case: 'prompt' as const, value: 'x' }, stop: Array.from({ length: 500_000 }, () => '') },
      'bad_request',
    ],
  ])('%s: gRPC Generate holds the event loop for less than 5 ms', async (_what, request, reason) => {
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
    await expectFreeLoop(async () => {
      const stream = client.generate(request, { deadlineMs: 60_000 });
      await expect(stream[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'invalid_argument', reason });
    });
  });

  it('a text of a megabyte: gRPC Tokenize refuses what cannot fit the context without tokenizing it', async () => {
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
    const value = 'abcdefghij'.repeat(104_000);
    await expectFreeLoop(async () => {
      await expect(client.tokenize({ input: { $case: 'text', value } })).rejects.toMatchObject({ reason: 'prompt_too_long' });
    });
  });

  it('leaves the router in order', async () => {
    const response = await harness.post('/v1/completions', { model: 'tiny-moe', prompt: 'hello' });
    expect(response.status).toBe(200);
    await harness.quiet();
  });
});
