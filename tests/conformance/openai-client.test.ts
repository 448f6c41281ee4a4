import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { RAW_BYTES, SENT_BYTES } from './fake-numbers.ts';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

const TEXT = 'Hello wörld 😀, this is the END of it';
const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }];

let harness: Harness;
let answer: number[];

beforeAll(async () => {
  answer = (await testTokenizer()).encode(TEXT);
  harness = await startHarness({ workers: ['prefill-0', 'decode-0'] });
});
afterEach(() => harness.quiet());
afterAll(() => harness?.[Symbol.asyncDispose]());

interface Causeway {
  causeway: Record<string, unknown>;
}

describe('the official openai client', () => {
  it('gets a whole chat answer with usage and what became of the KV', async () => {
    harness.play({ answer: [...answer, 2], endsWith: 'stop' });
    const { data, response } = await harness.openai.chat.completions.create({ model: 'tiny-moe', messages }).withResponse();
    expect(data.choices).toHaveLength(1);
    expect(data.choices[0]?.message).toMatchObject({ role: 'assistant', content: TEXT });
    expect(data.choices[0]?.finish_reason).toBe('stop');
    expect(data.usage?.completion_tokens).toBe(answer.length + 1);
    expect((data.usage as unknown as Causeway).causeway).toMatchObject({
      outcome: 'used',
      bytes_raw: RAW_BYTES,
      bytes_sent: SENT_BYTES,
      codec: 'planes+zstd',
      prefill_worker: 'prefill-0',
      decode_worker: 'decode-0',
      attempts: 1,
      prefill_storage: 'f8e4m3 HND 64',
      decode_storage: 'int8 NZ 128',
      wire_dtype: 'int8',
      rounded: true,
      convert_ms: 0.75,
    });
    expect(response.headers.get('x-causeway-kv')).toContain(`outcome=used; raw=${RAW_BYTES}; sent=${SENT_BYTES}`);
    expect(response.headers.get('x-causeway-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(data.id).toBe(`chatcmpl-${response.headers.get('x-causeway-request-id')}`);
  });

  it('streams a chat answer: whole characters, one finish, usage in the last chunk with a finish_reason', async () => {
    harness.play({ answer });
    const stream = await harness.openai.chat.completions.create({ model: 'tiny-moe', messages, stream: true });
    let text = '';
    const finishes: unknown[] = [];
    for await (const chunk of stream) {
      const piece = chunk.choices[0]?.delta.content ?? '';
      expect(piece.isWellFormed()).toBe(true);
      expect(piece).not.toContain('\u{fffd}');
      text += piece;
      if (chunk.choices[0]?.finish_reason !== null) finishes.push(chunk);
    }
    expect(text).toBe(TEXT);
    expect(finishes).toMatchObject([{ choices: [{ finish_reason: 'length' }], usage: { causeway: { outcome: 'used' } } }]);
  });

  it('gets an extra usage chunk when it asks for one', async () => {
    harness.play({ answer });
    const stream = await harness.openai.chat.completions.create({
      model: 'tiny-moe',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await collect(stream);
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { completion_tokens: answer.length, causeway: { outcome: 'used' } },
    });
    expect(chunks[0]?.usage).toBeNull();
  });

  it('can use the streaming helper of the client', async () => {
    harness.play({ answer });
    const final = await harness.openai.chat.completions.stream({ model: 'tiny-moe', messages }).finalChatCompletion();
    expect(final.choices[0]?.message.content).toBe(TEXT);
    expect(final.usage).toMatchObject({ completion_tokens: answer.length });
  });

  it('completes a prompt, whole and streamed', async () => {
    harness.play({ answer });
    const whole = await harness.openai.completions.create({ model: 'tiny-moe', prompt: 'Once upon a time' });
    expect(whole.choices[0]).toMatchObject({ text: TEXT, finish_reason: 'length' });
    const stream = await harness.openai.completions.create({ model: 'tiny-moe', prompt: [1, 2, 3], stream: true });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0]?.text ?? '';
    expect(text).toBe(TEXT);
    expect(harness.fabric.of('reserve').at(-1)?.generation?.promptIds).toEqual([1, 2, 3]);
  });

  it('lists the model', async () => {
    const models = await collect(harness.openai.models.list());
    expect(models).toMatchObject([{ id: 'tiny-moe', object: 'model', owned_by: 'causeway', max_model_len: 512 }]);
    expect(await harness.openai.models.retrieve('tiny-moe')).toMatchObject({ id: 'tiny-moe' });
    await expect(harness.openai.models.retrieve('gpt-9')).rejects.toMatchObject({ status: 404 });
  });

  it('sends its sampling to both workers, with one random seed when it gave none', async () => {
    harness.play({ answer });
    const sampling = { temperature: 0.5, top_p: 0.9, max_tokens: 3 };
    await harness.openai.chat.completions.create({ model: 'tiny-moe', messages, ...sampling });
    const at = harness.fabric.of('reserve')[0]?.generation;
    expect(at).toMatchObject({ maxTokens: 3, sampling: { temperature: 0.5, topP: 0.9, topK: 0 } });
    expect(harness.fabric.of('prefill')[0]?.generation).toEqual(at);
    harness.play({ answer });
    await harness.openai.chat.completions.create({ model: 'tiny-moe', messages, seed: 7, max_tokens: 2 });
    expect(harness.fabric.of('reserve')[0]?.generation?.sampling?.seed).toBe(7n);
    expect(at?.sampling?.seed).not.toBe(0n);
  });

  it('sends stop_token_ids, ignore_eos and min_tokens to both workers', async () => {
    harness.play({ answer });
    const body = { model: 'tiny-moe', messages, max_tokens: 3 };
    const extended = { ...body, stop_token_ids: [7, 9], ignore_eos: true, min_tokens: 2 };
    await harness.openai.chat.completions.create(extended);
    const at = harness.fabric.of('reserve')[0]?.generation;
    expect(at).toMatchObject({ stopTokenIds: [7, 9], ignoreEos: true, minTokens: 2 });
    expect(harness.fabric.of('prefill')[0]?.generation).toEqual(at);
    await harness.openai.chat.completions.create(body);
    expect(harness.fabric.of('reserve')[1]?.generation).toMatchObject({ stopTokenIds: [], ignoreEos: false, minTokens: 0 });
  });

  it('ends at max_tokens 1 without the transfer: not_needed', async () => {
    harness.play({
      answer,
      beforeCommit: (call) =>
        new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(call.signal.reason as Error))),
    });
    const { data, response } = await harness.openai.chat.completions
      .create({ model: 'tiny-moe', messages, max_tokens: 1 })
      .withResponse();
    expect(data.choices[0]?.finish_reason).toBe('length');
    expect((data.usage as unknown as Causeway).causeway).toMatchObject({ outcome: 'not_needed', bytes_sent: 0 });
    expect(response.headers.get('x-causeway-kv')).toContain('outcome=not_needed');
    await harness.quiet();
    expect(harness.fabric.of('token')).toEqual([]);
  });

  it('prefills where it decodes when asked to', async () => {
    harness.play({ answer });
    const body = { model: 'tiny-moe', messages, causeway: { placement: 'local' } };
    const data = await harness.openai.chat.completions.create(body);
    expect((data.usage as unknown as Causeway).causeway).toMatchObject({ outcome: 'local', prefill_worker: '', bytes_sent: 0 });
    expect(harness.fabric.of('prefill')).toEqual([]);
  });

  it('stops at a stop string that spans tokens, gives no part of it, and cancels the rest', async () => {
    const stop = 'wörld 😀, t';
    harness.play({
      answer,
      beforeToken: async (position, call) => {
        if (position === answer.length - 1) await aborted(call.signal);
      },
    });
    const stream = await harness.openai.chat.completions.create({
      model: 'tiny-moe',
      messages,
      stream: true,
      stop: ['nothing', stop],
    });
    let text = '';
    let finish: string | null | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    expect([text, finish]).toEqual(['Hello ', 'stop']);
    await harness.quiet();
    expect(harness.fabric.of('decode ended')).toHaveLength(1);
  });

  it('gives what looked like a stop string when the answer ends before it', async () => {
    harness.play({ answer });
    const data = await harness.openai.chat.completions.create({ model: 'tiny-moe', messages, stop: ['END of it all'] });
    expect(data.choices[0]?.message.content).toBe(TEXT);
  });
});

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
