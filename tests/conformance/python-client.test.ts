/** The official Python client: answers, streams, tools, formats, log-probabilities, errors and their classes. */
import { startCluster as startWorkers } from '@causeway/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { aborted } from './choice-streams.ts';
import { logprobAt } from './fake-numbers.ts';
import { MODEL_PATH } from './harness.ts';
import { PythonClient, pythonWithOpenai } from './python-client.ts';
import { ARGUMENTS, type Cluster, startCluster } from './tools-cluster.ts';

const TEXT = 'Hello wörld 😀, this is the END of it';
const KEY = 'sk-python';
const python = pythonWithOpenai();

describe.skipIf(python === undefined)('the official Python client', () => {
  let cluster: Cluster;
  let client: PythonClient;

  beforeAll(async () => {
    cluster = await startCluster('qwen3', { CAUSEWAY_API_KEYS: KEY, CAUSEWAY_MAX_QUEUE: '0' });
    client = new PythonClient(python ?? '', `${cluster.harness.url}/v1`, KEY);
  });
  afterEach(() => cluster.harness.quiet());
  afterAll(async () => {
    await client?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  });

  it('lists models', async () => {
    expect(await client.play('models')).toEqual({ ids: ['tiny-moe'], one: 'causeway' });
  });

  it('gets a whole chat answer with usage and what became of the KV', async () => {
    const answer = cluster.write(TEXT);
    expect(await client.play('whole')).toMatchObject({
      text: TEXT,
      finish: 'stop',
      object: 'chat.completion',
      usage: { completion_tokens: answer.length, causeway: { outcome: 'used', prefill_worker: 'prefill-0' } },
      kv: expect.stringContaining('outcome=used'),
    });
  });

  it('streams one, by itself and with the helper', async () => {
    const answer = cluster.write(TEXT);
    expect(await client.play('stream')).toEqual({ text: TEXT, finishes: ['stop'], completion_tokens: answer.length });
    expect(await client.play('helper')).toEqual({ text: TEXT, events: ['chunk', 'content.delta', 'content.done'] });
  });

  it('gets several answers', async () => {
    const texts = ['one', 'another', 'a third'];
    const answers = texts.map((text) => cluster.model.tokenizer.encodeRendered(text));
    cluster.harness.play({ answer: answers[0] as number[], answers });
    expect(await client.play('choices')).toEqual(texts.map((text, i) => [i, text]));
  });

  it('gets log-probabilities in both forms', async () => {
    const answer = cluster.model.tokenizer.encodeRendered(TEXT);
    cluster.harness.play({ answer });
    const wanted = answer.map((_, position) => expect.closeTo(logprobAt(position), 5));
    expect(await client.play('logprobs')).toEqual({
      chat: TEXT,
      logprobs: wanted,
      tops: answer.map(() => 2),
      completion: wanted,
      offsets: [0],
    });
  });

  it('completes prompts of text and of token ids', async () => {
    cluster.write(TEXT);
    expect(await client.play('completion')).toEqual({ whole: TEXT, stream: TEXT });
  });

  it('gets tool calls, whole and in pieces', async () => {
    cluster.write(`<tool_call>\n{"name": "get_weather", "arguments": ${ARGUMENTS}}\n</tool_call>`);
    const called = { name: 'get_weather', arguments: JSON.parse(ARGUMENTS) as object, finish: 'tool_calls' };
    expect(await client.play('tools')).toEqual({ ...called, type: 'function', content: null });
    const streamed = (await client.play('tools_streamed')) as { pieces: number };
    expect(streamed).toEqual({ ...called, pieces: expect.any(Number) });
    expect(streamed.pieces).toBeGreaterThan(2);
  });

  it('gets errors in its own classes, with their fields', async () => {
    cluster.write(TEXT);
    const bad = { class: 'BadRequestError', api_error: true, status_code: 400, type: 'invalid_request_error' };
    expect(await client.play('errors')).toMatchObject({
      temperature: { ...bad, param: 'temperature' },
      min_tokens: { ...bad, param: 'min_tokens' },
      schema: { ...bad, param: expect.stringContaining('response_format') },
      model: { class: 'NotFoundError', status_code: 404, code: 'model_not_found', param: 'model' },
      'no messages': { ...bad, param: 'messages' },
      'too long': { ...bad, code: 'context_length_exceeded' },
      key: { class: 'AuthenticationError', status_code: 401, code: 'invalid_api_key' },
      nobody: { class: 'APIConnectionError', api_error: true },
    });
  });

  it('is told of a full queue and of its own timeout, which cancels the work', async () => {
    cluster.harness.play({ answer: [1], onPrefill: (call) => aborted(call.signal) });
    const held = new AbortController();
    const holders = [1, 2].map(() =>
      cluster.harness.openai.chat.completions
        .create(
          { model: 'tiny-moe', messages: [{ role: 'user', content: 'x' }] },
          { signal: held.signal, headers: { authorization: `Bearer ${KEY}` } },
        )
        .catch((error: unknown) => error),
    );
    await expect.poll(() => cluster.harness.fabric.of('prefill').length).toBe(2);
    expect(await client.play('refused')).toMatchObject({
      class: 'RateLimitError',
      status_code: 429,
      code: 'rate_limit_exceeded',
    });
    held.abort();
    await Promise.all(holders);
    await cluster.harness.quiet();
    expect(await client.play('timeout')).toMatchObject({ class: 'APITimeoutError', api_error: true });
    await cluster.harness.quiet();
    expect(cluster.harness.fabric.of('prefill ended')).toHaveLength(3);
  });

  it('gets a document of its own model class from a real model', async () => {
    await using workers = await startWorkers({ model: MODEL_PATH, modelName: 'tiny-moe', router: true });
    await using real = new PythonClient(python ?? '', `http://${workers.router.http}/v1`, KEY);
    expect(await real.play('parsed')).toEqual({ type: 'Person', name: expect.any(String), age: expect.any(Number) });
  });
});
