/** One router for several models: scripted workers of each, the real router between them and the clients. */
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { eventually } from '@causeway/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, MODEL_PATH, startHarness, testTokenizer } from './harness.ts';

let harness: Harness;
/** Of each model. */
let answers: { a: number[]; b: number[] };

beforeAll(async () => {
  const tokenizer = await testTokenizer();
  answers = { a: tokenizer.encode('Paris is it'), b: tokenizer.encode('London is it') };
  harness = await startHarness({
    env: {
      CAUSEWAY_MODEL_PATHS: JSON.stringify({ a: MODEL_PATH, 'b/c': MODEL_PATH }),
      CAUSEWAY_MAX_QUEUE: '1',
      CAUSEWAY_QUEUE_WAIT_MS: '2000',
      CAUSEWAY_RECOVERY_WAIT_MS: '2000',
    },
    workers: [],
  });
});
afterEach(() => harness.quiet());
afterAll(() => harness?.[Symbol.asyncDispose]());

function chat(model: string | undefined, content = 'hi') {
  return harness.post('/v1/chat/completions', { messages: [{ role: 'user', content }], model });
}

async function errorOf(response: Response): Promise<Record<string, unknown>> {
  return ((await response.json()) as { error: Record<string, unknown> }).error;
}

const readyz = async (): Promise<{ status: number; reasons: string[] }> => {
  const response = await fetch(`${harness.url}/readyz`);
  return { status: response.status, reasons: ((await response.json()) as { reasons: string[] }).reasons };
};

describe('a router of two models', () => {
  it('is ready when each has a decode worker, and stays so while one is served', async () => {
    expect(await readyz()).toEqual({ status: 503, reasons: ['no decode worker serves a', 'no decode worker serves b/c'] });
    for (const role of ['prefill', 'decode'] as const)
      await harness.addWorker({ id: `${role}-a`, role, model: 'a', weights: 'a', contextLength: 4096 });
    await eventually(async () => (await readyz()).reasons.join() === 'no decode worker serves b/c');
    for (const role of ['prefill', 'decode'] as const)
      await harness.addWorker({ id: `${role}-b`, role, model: 'b/c', weights: 'b', contextLength: 4096 });
    await eventually(async () => (await readyz()).status === 200);
    for (const { id } of harness.workers.values())
      harness.worker(id).script = { answer: id.endsWith('a') ? answers.a : answers.b };
  });

  it('lists both, and gives each by its name', async () => {
    const list = (await (await fetch(`${harness.url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(list.data.map(({ id }) => id)).toEqual(['a', 'b/c']);
    expect(await (await fetch(`${harness.url}/v1/models/b/c`)).json()).toMatchObject({ id: 'b/c' });
    const absent = await fetch(`${harness.url}/v1/models/c`);
    expect(absent.status).toBe(404);
    expect(await errorOf(absent)).toMatchObject({
      code: 'model_not_found',
      message: expect.stringContaining('a, b/c') as string,
    });
  });

  it.each([
    ['a', 'Paris is it'],
    ['b/c', 'London is it'],
  ])('%s is answered by its own workers, short and long, streamed or not', async (model, text) => {
    const own = model[0] ?? '';
    for (const content of ['hi', 'a long prompt. '.repeat(300)]) {
      harness.fabric.events.length = 0;
      const body = (await (await chat(model, content)).json()) as {
        model: string;
        choices: { message: { content: string } }[];
        usage: { causeway: Record<string, unknown> };
      };
      expect(body).toMatchObject({
        model,
        choices: [{ message: { content: text } }],
        usage: { causeway: { outcome: 'used', prefill_worker: `prefill-${own}`, decode_worker: `decode-${own}` } },
      });
      expect(new Set(harness.fabric.events.map(({ worker }) => worker.split('-')[1]))).toEqual(new Set([own]));
    }
    const stream = await harness.openai.completions.create({ model, prompt: 'hi', stream: true });
    let streamed = '';
    for await (const chunk of stream) streamed += chunk.choices[0]?.text ?? '';
    expect(streamed).toBe(text);
    const counted = (await (await harness.post('/tokenize', { model, prompt: text })).json()) as { count: number };
    expect(counted.count).toBe(answers[own as 'a' | 'b'].length);
  });

  it('over gRPC too', async () => {
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
    const ask = async (model: string): Promise<number[]> => {
      const ids: number[] = [];
      const request = inferenceV1.GenerateRequest.fromPartial({ model, input: { $case: 'prompt', value: 'hi' } });
      for await (const message of client.generate(request)) ids.push(...message.tokenIds);
      return ids;
    };
    expect(await ask('a')).toEqual(answers.a);
    expect(await ask('b/c')).toEqual(answers.b);
    await expect(ask('d')).rejects.toThrow(/'d' does not exist here; served: a, b\/c/);
    await expect(ask('')).rejects.toThrow(/'model' is missing, and this router serves several: a, b\/c/);
    const { models } = await client.listModels({});
    expect(models.map(({ id }) => id)).toEqual(['a', 'b/c']);
  });

  it('refuses another model, none, and what is no request, with the right error', async () => {
    const unknown = await chat('gpt-4');
    expect(unknown.status).toBe(404);
    expect(await errorOf(unknown)).toMatchObject({
      code: 'model_not_found',
      param: 'model',
      message: "the model 'gpt-4' does not exist here; served: a, b/c",
    });
    const missing = await chat(undefined);
    expect(missing.status).toBe(400);
    expect(await errorOf(missing)).toMatchObject({ param: 'model', message: expect.stringContaining('a, b/c') as string });
    for (const [body, reason] of [
      ['{"model": "a", "messages": [', 'bad_json'],
      ['[]', 'bad_request'],
      ['{"model": 7, "messages": []}', 'bad_request'],
      ['{"model": "a", "messages": []}', 'empty_prompt'],
    ]) {
      const response = await harness.post('/v1/chat/completions', body);
      expect(response.status, body).toBe(400);
      expect(await errorOf(response), body).toMatchObject({ reason });
    }
    expect(await harness.metric('causeway_router_requests_total', { outcome: 'unknown_model' })).toBeGreaterThan(0);
  });

  it('has a queue for each: one that is full keeps nobody from the other', async () => {
    const decode = harness.worker('decode-a');
    decode.report({ load: { running: 8, waiting: 16, queuedPromptTokens: 0, freePages: 0 } });
    const gone = new AbortController();
    const ask = () =>
      fetch(`${harness.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'a', prompt: 'hi' }),
        signal: gone.signal,
      });
    // One waits in line, which is as long as that; more are refused.
    const asked: Promise<unknown>[] = [];
    const statuses: number[] = [];
    await eventually(
      () => {
        asked.push(
          ask().then(
            ({ status }) => statuses.push(status),
            () => undefined,
          ),
        );
        return statuses.includes(429);
      },
      { intervalMs: 100 },
    );
    expect(await harness.metric('vllm:num_requests_waiting', { model_name: 'a' })).toBe(1);
    expect(await harness.metric('vllm:num_requests_waiting', { model_name: 'b/c' })).toBe(0);
    expect((await chat('b/c')).status).toBe(200);
    gone.abort();
    await Promise.all(asked);
    decode.report({ load: { running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 1000 } });
  });

  it('goes on serving one when the other has lost its workers, and says so', async () => {
    await harness.worker('decode-a').kill();
    await harness.worker('prefill-a').kill();
    await eventually(async () => (await chat('a')).status === 503, { timeoutMs: 20_000 });
    expect((await chat('b/c')).status).toBe(200);
    await eventually(async () => {
      const list = (await (await fetch(`${harness.url}/v1/models`)).json()) as { data: { id: string }[] };
      return list.data.map(({ id }) => id).join() === 'b/c';
    });
    expect(await readyz()).toEqual({ status: 200, reasons: [] });
  });
});
