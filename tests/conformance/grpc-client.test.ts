import { inferenceV1 } from '@causeway/proto';
import { type ChannelPool, createChannelPool, type RpcClient } from '@causeway/rpc';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

const TEXT = 'Paris 😀 is it';
const MAX_BODY = 32 * 1024;

let harness: Harness;
let channels: ChannelPool;
let client: RpcClient<typeof inferenceV1.InferenceDefinition>;
let answer: number[];

beforeAll(async () => {
  answer = (await testTokenizer()).encode(TEXT);
  harness = await startHarness({ env: { CAUSEWAY_MAX_BODY_BYTES: String(MAX_BODY) } });
  channels = createChannelPool();
  client = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
});
afterEach(() => harness.quiet());
afterAll(async () => {
  channels?.[Symbol.dispose]();
  await harness?.[Symbol.asyncDispose]();
});

function request(more: Parameters<typeof inferenceV1.GenerateRequest.fromPartial>[0]): inferenceV1.GenerateRequest {
  return inferenceV1.GenerateRequest.fromPartial({ input: { $case: 'prompt', value: 'hello' }, ...more });
}

async function collect(stream: AsyncIterable<inferenceV1.GenerateResponse>): Promise<inferenceV1.GenerateResponse[]> {
  const all = [];
  for await (const message of stream) all.push(message);
  return all;
}

describe('causeway.inference.v1.Inference', () => {
  it('streams text and token ids; the last message has the usage and what became of the KV', async () => {
    harness.play({ answer });
    const input = { $case: 'messages' as const, value: { messages: [{ role: 'user', content: 'capital of France?' }] } };
    const all = await collect(client.generate(request({ input }), { requestId: 'grpc-1' }));
    expect(all.map((message) => message.text).join('')).toBe(TEXT);
    expect(all.flatMap((message) => message.tokenIds)).toEqual(answer);
    expect(all.every((message) => message.requestId === 'grpc-1')).toBe(true);
    expect(all.at(-1)).toMatchObject({
      finishReason: 'length',
      usage: {
        completionTokens: answer.length,
        kv: { outcome: 'used', bytesSent: 640n, codec: 'planes+zstd', decodeWorker: 'decode-0' },
      },
    });
    expect(harness.fabric.of('reserve')[0]?.requestId).toBe('grpc-1');
  });

  it('takes token ids, stop strings, placement and sampling', async () => {
    harness.play({ answer });
    const input = { $case: 'tokenIds' as const, value: { ids: [5, 6, 7] } };
    const sampling = { temperature: 0, topP: 1, topK: 4, seed: 2n ** 63n };
    const all = await collect(client.generate(request({ input, sampling, placement: 'local', stop: [' is'] })));
    expect(all.map((message) => message.text).join('')).toBe('Paris 😀');
    expect(all.at(-1)).toMatchObject({ finishReason: 'stop', usage: { promptTokens: 3, kv: { outcome: 'local' } } });
    expect(harness.fabric.of('reserve')[0]).toMatchObject({
      local: true,
      generation: { promptIds: [5, 6, 7], sampling: { topK: 4, seed: 2n ** 63n } },
    });
  });

  it('tokenizes and lists models', async () => {
    const { ids } = await client.tokenize({ model: '', input: { $case: 'text', value: TEXT } });
    expect(ids).toEqual(answer);
    const chat = await client.tokenize({
      model: 'tiny-moe',
      input: { $case: 'messages', value: { messages: [{ role: 'user', content: 'hi' }] } },
    });
    expect(chat.ids.length).toBeGreaterThan(2);
    expect(await client.listModels({})).toEqual({
      models: [{ id: 'tiny-moe', architecture: 'deepseek_v3', contextLength: 512 }],
    });
  });

  it.each([
    [{ model: 'gpt-9' }, 'not_found', 'unknown_model'],
    [{ model: `${'a'.repeat(2034)}${'😀'.repeat(50)}` }, 'invalid_argument', 'bad_request'],
    [{ model: `${'a'.repeat(510)}😀` }, 'not_found', 'unknown_model'],
    [{ input: undefined }, 'invalid_argument', 'empty_prompt'],
    [{ input: { $case: 'prompt' as const, value: '' } }, 'invalid_argument', 'empty_prompt'],
    [{ input: { $case: 'tokenIds' as const, value: { ids: [] } } }, 'invalid_argument', 'empty_prompt'],
    [{ input: { $case: 'tokenIds' as const, value: { ids: [4096] } } }, 'invalid_argument', 'invalid_token'],
    [
      { input: { $case: 'messages' as const, value: { messages: [{ role: 'wizard', content: 'x' }] } } },
      'invalid_argument',
      'bad_request',
    ],
    [{ sampling: { temperature: Number.NaN } }, 'invalid_argument', 'bad_sampling'],
    [{ sampling: { topP: 0 } }, 'invalid_argument', 'bad_sampling'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'invalid_argument', 'bad_request'],
    [{ stop: [''] }, 'invalid_argument', 'bad_request'],
    [{ placement: 'moon' }, 'invalid_argument', 'bad_request'],
  ])('refuses %j', async (more, code, reason) => {
    harness.play({ answer });
    await expect(collect(client.generate(request(more)))).rejects.toMatchObject({ code, reason });
    expect(harness.fabric.events).toEqual([]);
  });

  it('refuses a request that is larger than the limit of bodies, and takes one as large', async () => {
    harness.play({ answer });
    const input = (length: number) => ({ $case: 'prompt' as const, value: 'x'.repeat(length) });
    const error = { code: 'resource_exhausted' };
    await expect(collect(client.generate(request({ input: input(MAX_BODY + 1) })))).rejects.toMatchObject(error);
    await expect(client.tokenize({ input: { $case: 'text', value: 'x'.repeat(MAX_BODY + 1) } })).rejects.toMatchObject(error);
    const taken = collect(client.generate(request({ input: input(MAX_BODY - 10) })));
    await expect(taken).rejects.toMatchObject({ reason: 'prompt_too_long' });
    expect(harness.fabric.events).toEqual([]);
  });

  it('counts what it refuses, and what it tokenizes', async () => {
    const counts = async (): Promise<string> =>
      (await (await fetch(`http://${harness.observability}/metrics`)).text())
        .split('\n')
        .filter((line) => line.startsWith('causeway_router_requests_total'))
        .join('\n');
    const count = async (outcome: string): Promise<number> =>
      Number(new RegExp(`outcome="${outcome}"} (\\d+)`).exec(await counts())?.[1] ?? 0);
    const [badRequests, served] = [await count('bad_request'), await count('ok')];
    await expect(collect(client.generate(request({ placement: 'moon' })))).rejects.toMatchObject({ reason: 'bad_request' });
    expect(await count('bad_request')).toBe(badRequests + 1);
    await client.tokenize({ input: { $case: 'text', value: 'hello' } });
    expect(await count('ok')).toBe(served + 1);
  });

  it('tokenizes a long text in a thread as a short one', async () => {
    const short = await client.tokenize({ input: { $case: 'text', value: 'one two ' } });
    const long = await client.tokenize({ input: { $case: 'text', value: 'one two '.repeat(800) } });
    expect(long.ids.slice(0, short.ids.length - 1)).toEqual(short.ids.slice(0, -1));
    expect(long.ids.length).toBeGreaterThan(512);
  });

  it('honours a deadline: everything ends at both workers', async () => {
    harness.play({
      answer,
      onPrefill: (call) =>
        new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(call.signal.reason as Error))),
    });
    await expect(collect(client.generate(request({}), { deadlineMs: 300 }))).rejects.toMatchObject({ code: 'deadline_exceeded' });
    await harness.quiet();
    expect(harness.fabric.of('decode ended')).toHaveLength(1);
    expect(harness.fabric.of('prefill ended')).toHaveLength(1);
  });

  it('honours a cancellation in mid answer: no later token', async () => {
    harness.play({
      answer,
      beforeToken: (position, call) =>
        position < 3
          ? Promise.resolve()
          : new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(call.signal.reason as Error))),
    });
    const cancel = new AbortController();
    const seen: number[] = [];
    const consume = async (): Promise<void> => {
      for await (const message of client.generate(request({}), { signal: cancel.signal })) {
        seen.push(...message.tokenIds);
        if (seen.length === 3) cancel.abort();
      }
    };
    await expect(consume()).rejects.toMatchObject({ code: 'cancelled' });
    await harness.quiet();
    expect(seen).toEqual(answer.slice(0, 3));
    expect(harness.fabric.of('token').map((event) => event.position)).toEqual([0, 1, 2]);
  });
});
