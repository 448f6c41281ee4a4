/** A router that wants API keys, as clients meet it. */
import { inferenceV1 } from '@causeway/proto';
import { type ChannelPool, createChannelPool, type RpcClient } from '@causeway/rpc';
import { credentials, makeGenericClientConstructor, Metadata } from '@grpc/grpc-js';
import { Metadata as NiceMetadata } from 'nice-grpc-common';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness } from './harness.ts';

const ask = { model: 'tiny-moe', messages: [{ role: 'user' as const, content: 'hi' }], max_tokens: 1 };
let harness: Harness;
let channels: ChannelPool;
let grpc: RpcClient<typeof inferenceV1.InferenceDefinition>;

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of stream) all.push(message);
  return all;
}

beforeAll(async () => {
  harness = await startHarness({ env: { CAUSEWAY_API_KEYS: 'sk-first,sk-second' } });
  channels = createChannelPool();
  grpc = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
});
afterAll(async () => {
  channels?.[Symbol.dispose]();
  await harness?.[Symbol.asyncDispose]();
});

describe('a router with API keys', () => {
  it.each(['sk-first', 'sk-second'])('answers the client that sends %s', async (apiKey) => {
    const client = new OpenAI({ baseURL: `${harness.url}/v1`, apiKey, maxRetries: 0 });
    expect((await client.chat.completions.create(ask)).choices).toHaveLength(1);
  });

  it("refuses others as OpenAI does, in the client's own error class", async () => {
    const refused = await harness.openai.chat.completions.create(ask).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(OpenAI.AuthenticationError);
    expect(refused).toMatchObject({ status: 401, code: 'invalid_api_key' });
  });

  it.each([
    ['POST', '/v1/chat/completions'],
    ['POST', '/v1/completions'],
    ['GET', '/v1/models'],
    ['GET', '/v1/models/tiny-moe'],
    ['GET', '/nowhere'],
  ])('refuses %s %s without a key before anything else', async (method, path) => {
    const response = await fetch(harness.url + path, { method, ...(method === 'POST' ? { body: '{' } : {}) });
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe('Bearer');
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_api_key', param: null } });
    expect(
      harness.fabric.of('reserve').filter(({ requestId }) => requestId === response.headers.get('x-causeway-request-id')),
    ).toEqual([]);
  });

  it.each(['/livez', '/readyz', '/health', '/health?probe=1'])('answers %s to everybody', async (path) => {
    expect((await fetch(harness.url + path)).status).toBe(200);
  });

  it('wants the key in the metadata of gRPC calls, all but health', async () => {
    const request = inferenceV1.GenerateRequest.fromPartial({ input: { $case: 'prompt', value: 'hi' }, maxTokens: 1 });
    const none = expect.objectContaining({ code: 'unauthenticated', reason: 'invalid_api_key' });
    const calls = [
      () => collect(grpc.generate(request)),
      () => grpc.tokenize({ model: '', input: { $case: 'text', value: 'hi' } }),
      () => grpc.listModels({}),
    ];
    for (const call of calls) await expect(call()).rejects.toEqual(none);
    const metadata = NiceMetadata({ authorization: 'Bearer sk-second' });
    expect((await grpc.listModels({}, { metadata })).models).toHaveLength(1);
    expect(await collect(grpc.generate(request, { metadata }))).not.toHaveLength(0);
    const Health = makeGenericClientConstructor({}, 'grpc.health.v1.Health');
    const health = new Health(harness.grpc, credentials.createInsecure());
    const status = await new Promise((resolve, reject) => {
      const bytes = (value: Buffer): Buffer => value;
      const done = (error: unknown, value?: Buffer): void => (error === null ? resolve(value) : reject(error as Error));
      health.makeUnaryRequest('/grpc.health.v1.Health/Check', bytes, bytes, Buffer.alloc(0), new Metadata(), done);
    });
    expect(status).toEqual(Buffer.from([8, 1]));
    health.close();
  });
});

it('a router whose file of keys is missing does not start', async () => {
  const start = startHarness({ env: { CAUSEWAY_API_KEYS_FILE: '/nonexistent/keys' }, workers: [] });
  await expect(start).rejects.toThrow();
});
