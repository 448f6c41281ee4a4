/**
 * The clients that people use against real processes: OpenAI's own package, gRPC without any code of ours around it, grpcurl. Router,
 * prefill and decode worker serve the built-in model; what it says is known from the reference.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { healthV1, inferenceV1 } from '@causeway/proto';
import { type ChannelPool, createChannelPool } from '@causeway/rpc';
import { type Cluster, eventually, scrape, startCluster } from '@causeway/testkit';
import { credentials, makeGenericClientConstructor, Metadata } from '@grpc/grpc-js';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findGrpcurl } from './grpcurl.ts';

// Starting processes takes seconds, and on a busy machine many: nothing here waits for a time, but all of it may take one.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
const SERVICE = 'causeway.inference.v1.Inference';
const { SERVING, NOT_SERVING } = healthV1.HealthCheckResponse_ServingStatus;

interface GoldenCase {
  messages: { role: 'user' | 'assistant' | 'system'; content: string }[];
  prompt_ids: number[];
  greedy_ids: number[];
  text: string;
}

const golden = JSON.parse(await readFile(join(MODEL, 'golden.json'), 'utf8')) as { cases: GoldenCase[] };
const cases = golden.cases.slice(0, 3);
const first = cases[0] as GoldenCase;

let cluster: Cluster;
let openai: OpenAI;
let channels: ChannelPool;

beforeAll(async () => {
  cluster = await startCluster({
    model: MODEL,
    router: true,
    workerEnv: { CAUSEWAY_MAX_CONTEXT: '1024', CAUSEWAY_KV_BUDGET_BYTES: '512MiB' },
    env: { router: { CAUSEWAY_PLACEMENT: 'disaggregated' } },
  });
  openai = new OpenAI({ baseURL: `http://${cluster.router.http}/v1`, apiKey: 'none', maxRetries: 0 });
  channels = createChannelPool();
});
afterAll(async () => {
  channels?.[Symbol.dispose]();
  await cluster?.[Symbol.asyncDispose]();
});

interface Causeway {
  causeway: { outcome: string; bytes_sent: number; prefill_worker: string; decode_worker: string };
}

/** The reference ends where its model does, or was cut. */
const greedy = (messages: GoldenCase['messages'], tokens = first.greedy_ids.length) => ({
  model: 'tiny-moe',
  messages,
  temperature: 0,
  max_tokens: tokens,
});

async function expectInLogs(requestId: string): Promise<void> {
  const processes = [cluster.router.process, cluster.worker('prefill-1').process, cluster.worker('decode-1').process];
  for (const process of processes) {
    await eventually(() => process.logs().some((line) => line['requestId'] === requestId), {
      what: `request ${requestId} in a log`,
    });
  }
}

describe("OpenAI's client", () => {
  it.each(cases.map((each) => [each.messages.at(-1)?.content, each] as const))(
    'streams the answer to "%s"',
    async (_question, each) => {
      const { messages, text, greedy_ids: ids } = each;
      const { data, response } = await openai.chat.completions
        .create({ ...greedy(messages, ids.length), stream: true, stream_options: { include_usage: true } })
        .withResponse();
      const requestId = response.headers.get('x-causeway-request-id') ?? '';
      expect(requestId).toMatch(/^[0-9a-f-]{36}$/);
      let streamed = '';
      const usages: unknown[] = [];
      for await (const chunk of data) {
        streamed += chunk.choices[0]?.delta.content ?? '';
        expect(chunk.id).toBe(`chatcmpl-${requestId}`);
        if (chunk.choices[0]?.finish_reason !== null) usages.push(chunk.usage);
      }
      expect(streamed).toBe(text);
      // The last chunk with a choice has the usage, and so has OpenAI's extra one.
      expect(usages).toMatchObject([{ completion_tokens: ids.length }, { completion_tokens: ids.length }]);
      expect((usages[0] as Causeway).causeway).toMatchObject({
        outcome: 'used',
        prefill_worker: 'prefill-1',
        decode_worker: 'decode-1',
      });
      await expectInLogs(requestId);
    },
  );

  it('gets a whole answer, with what became of its KV in a header', async () => {
    const { data, response } = await openai.chat.completions.create(greedy(first.messages)).withResponse();
    expect(data.choices[0]?.message.content).toBe(first.text);
    expect(data.usage).toMatchObject({ prompt_tokens: first.prompt_ids.length, completion_tokens: first.greedy_ids.length });
    const { causeway } = data.usage as unknown as Causeway;
    expect(causeway.outcome).toBe('used');
    expect(response.headers.get('x-causeway-kv')).toMatch(new RegExp(`^outcome=used; .*sent=${causeway.bytes_sent};`));
    await expectInLogs(response.headers.get('x-causeway-request-id') ?? '');
  });

  it('completes a prompt of token ids as it does the messages', async () => {
    const body = { model: 'tiny-moe', prompt: first.prompt_ids, temperature: 0, max_tokens: 64 };
    expect((await openai.completions.create(body)).choices[0]?.text).toBe(first.text);
  });

  it('ends at a token of stop_token_ids, and goes on past the end of sequence with ignore_eos', async () => {
    const ids = first.greedy_ids;
    const stopped = { ...greedy(first.messages), stop_token_ids: [ids[4]] };
    const short = await openai.chat.completions.create(stopped);
    expect(short.choices[0]?.finish_reason).toBe('stop');
    expect(first.text.startsWith(short.choices[0]?.message.content ?? 'nothing')).toBe(true);
    expect(short.usage?.completion_tokens).toBe(5);
    const endless = { ...greedy(first.messages, ids.length + 5), ignore_eos: true };
    const long = await openai.chat.completions.create(endless);
    expect(long.choices[0]?.finish_reason).toBe('length');
    expect(long.usage?.completion_tokens).toBe(ids.length + 5);
  });

  it('raises the errors that it has classes for', async () => {
    await expect(openai.chat.completions.create({ ...greedy(first.messages), model: 'gpt-9' })).rejects.toMatchObject({
      constructor: OpenAI.NotFoundError,
      code: 'model_not_found',
      param: 'model',
    });
    const long = [{ role: 'user' as const, content: 'word '.repeat(2000) }];
    await expect(openai.chat.completions.create(greedy(long))).rejects.toMatchObject({
      constructor: OpenAI.BadRequestError,
      code: 'context_length_exceeded',
      param: 'messages',
    });
  });
});

interface PlainClient {
  generate(request: object, metadata: Metadata): AsyncIterable<inferenceV1.GenerateResponse>;
  close(): void;
}

describe('gRPC', () => {
  it('streams from a client that is grpc-js and nothing else', async () => {
    const Client = makeGenericClientConstructor(inferenceV1.InferenceService, 'Inference');
    const client = new Client(cluster.router.grpc, credentials.createInsecure()) as unknown as PlainClient;
    const metadata = new Metadata();
    metadata.set('x-causeway-request-id', 'plain-1');
    const request = inferenceV1.GenerateRequest.fromPartial({
      input: { $case: 'messages', value: { messages: first.messages } },
      sampling: { temperature: 0 },
      maxTokens: 64,
    });
    const all: inferenceV1.GenerateResponse[] = [];
    for await (const message of client.generate(request, metadata)) all.push(message);
    client.close();
    expect(all.map((message) => message.text).join('')).toBe(first.text);
    expect(all.flatMap((message) => message.tokenIds)).toEqual(first.greedy_ids);
    expect(all.at(-1)).toMatchObject({
      requestId: 'plain-1',
      finishReason: 'stop',
      usage: { promptTokens: first.prompt_ids.length, kv: { outcome: 'used', decodeWorker: 'decode-1' } },
    });
    await expectInLogs('plain-1');
  });

  it('tokenizes messages as the reference does, and lists the model', async () => {
    const client = channels.client(inferenceV1.InferenceDefinition, cluster.router.grpc);
    const { ids } = await client.tokenize({ input: { $case: 'messages', value: { messages: first.messages } } });
    expect(ids).toEqual(first.prompt_ids);
    expect((await client.listModels({})).models).toMatchObject([{ id: 'tiny-moe', contextLength: 1024 }]);
  });
});

describe("the router's metrics", () => {
  it('tell of the answers above', async () => {
    const served = cases.length + 5;
    const metric = await scrape(cluster.router);
    expect(metric('causeway_router_requests_total', { outcome: 'ok' })).toBeGreaterThanOrEqual(served);
    expect(metric('causeway_router_requests_total', { outcome: 'unknown_model' })).toBe(1);
    expect(metric('causeway_router_requests_total', { outcome: 'prompt_too_long' })).toBe(1);
    expect(metric('causeway_kv_outcome_total', { outcome: 'used' })).toBe(served);
    expect(metric('causeway_handoff_gap_seconds_count')).toBe(served);
    expect(metric('causeway_handoff_gap_seconds_sum')).toBeGreaterThan(0);
    expect(metric('vllm:time_to_first_token_seconds_count', { model_name: 'tiny-moe' })).toBe(served);
    expect(metric('vllm:generation_tokens_total')).toBeGreaterThanOrEqual(served * 5);
  });
});

const grpcurl = await findGrpcurl();

describe('grpcurl', () => {
  const call = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)(grpcurl ?? '', ['-plaintext', ...args], { timeout: 60_000 })).stdout;

  it.skipIf(grpcurl === undefined)('lists, describes and generates by reflection', async () => {
    const address = cluster.router.grpc;
    expect((await call(address, 'list')).split('\n')).toEqual(expect.arrayContaining([SERVICE, 'grpc.health.v1.Health']));
    expect(await call(address, 'list', SERVICE)).toContain(`${SERVICE}.Generate`);
    expect(await call(address, 'describe', SERVICE)).toContain('rpc Generate');
    expect(await call(address, 'describe', `${SERVICE.replace('Inference', 'GenerateRequest')}`)).toContain(
      'repeated string stop',
    );
    expect(JSON.parse(await call(address, 'grpc.health.v1.Health/Check'))).toEqual({ status: 'SERVING' });
    const request = { messages: { messages: first.messages }, sampling: { temperature: 0 }, maxTokens: 64 };
    const output = await call('-d', JSON.stringify(request), address, `${SERVICE}/Generate`);
    // One JSON object after the other.
    const answers = JSON.parse(`[${output.trim().replaceAll(/\}\s*\n\{/g, '},{')}]`) as { text?: string; usage?: object }[];
    expect(answers.map(({ text }) => text ?? '').join('')).toBe(first.text);
    expect(answers.at(-1)).toMatchObject({ finishReason: 'stop', usage: { kv: { outcome: 'used' } } });
  });
});

describe('health of the router', () => {
  const status = async (service: string): Promise<unknown> =>
    (await channels.client(healthV1.HealthDefinition, cluster.router.grpc).check({ service })).status;

  it('is NOT_SERVING without a decode worker, and SERVING with one again', async () => {
    expect([await status(''), await status(SERVICE)]).toEqual([SERVING, SERVING]);
    await cluster.worker('decode-1').process.stop();
    await eventually(async () => (await status(SERVICE)) === NOT_SERVING, { timeoutMs: 60_000 });
    expect((await fetch(`http://${cluster.router.http}/readyz`)).status).toBe(503);
    await cluster.startWorker('decode', 'decode-1');
    await eventually(async () => (await status(SERVICE)) === SERVING, { timeoutMs: 60_000 });
  });

  it('is NOT_SERVING while it drains', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'causeway-clients-'));
    const router = await cluster.startRouter({ CAUSEWAY_FAILPOINTS: 'reserved=pause', CAUSEWAY_FAILPOINT_DIR: folder });
    await eventually(async () => (await status('')) === SERVING, { timeoutMs: 60_000 });
    const running = fetch(`http://${router.http}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(greedy(first.messages)),
    });
    await router.process.waitForLog((line) => line['msg'] === 'failpoint', 60_000);
    router.process.signal('TERM');
    await eventually(async () => (await status('')) === NOT_SERVING, { timeoutMs: 10_000 });
    await writeFile(join(folder, 'reserved.go'), '');
    const body = (await (await running).json()) as OpenAI.ChatCompletion;
    expect(body.choices[0]?.message.content).toBe(first.text);
    expect(await router.process.exited).toMatchObject({ code: 0 });
    await rm(folder, { recursive: true, force: true });
  });
});
