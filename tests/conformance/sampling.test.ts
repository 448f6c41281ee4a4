/** What clients say about sampling reaches the workers; what the workers say about probabilities reaches the clients, whatever fails. */
import type { Tokenizer } from '@causeway/model-files';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { eventually } from '@causeway/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { logprobAt } from './fake-numbers.ts';
import { type FakeCall } from './fake-worker.ts';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

const TEXT = 'one two 😀 three four';
const messages = [{ role: 'user' as const, content: 'count' }];
const chat = { model: 'tiny-moe', messages };
const penalties = { presence_penalty: 0.5, frequency_penalty: -0.25, logit_bias: { 7: -100, 9: 1.5 } };
const extensions = { min_p: 0.05, repetition_penalty: 1.25, top_k: 40 };
/** As the workers get it. */
const SAMPLING = {
  minP: 0.05,
  repetitionPenalty: 1.25,
  presencePenalty: 0.5,
  frequencyPenalty: -0.25,
  logitBias: [
    { id: 7, bias: -100 },
    { id: 9, bias: 1.5 },
  ],
};

let tokenizer: Tokenizer;
let answer: number[];
let harness: Harness;

beforeAll(async () => {
  tokenizer = await testTokenizer();
  answer = tokenizer.encode(TEXT);
  harness = await startHarness();
});
beforeEach(() => harness.play({ answer }));
afterAll(() => harness?.[Symbol.asyncDispose]());

const bytesOf = (id: number) => [...(tokenizer.tokenBytes(id) as Uint8Array)];

/** The text of all entries; the tokens of an answer may cut its characters. */
const joined = (entries: readonly { bytes: number[] | null }[]) =>
  Buffer.from(entries.flatMap(({ bytes }) => bytes ?? [])).toString();

describe('sampling over HTTP', () => {
  it('reaches both workers', async () => {
    await harness.openai.chat.completions.create({ ...chat, ...penalties, ...extensions, logprobs: true, top_logprobs: 3 });
    const at = harness.fabric.of('reserve')[0]?.generation;
    expect(at).toMatchObject({ topLogprobs: 3, sampling: { ...SAMPLING, topK: 40 } });
    expect(harness.fabric.of('prefill')[0]?.generation).toEqual(at);
  });

  it('is none when nothing is said', async () => {
    await harness.openai.chat.completions.create(chat);
    const none = { minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: [] };
    expect(harness.fabric.of('reserve')[0]?.generation).toMatchObject({ topLogprobs: 0, sampling: none });
  });

  it.each([
    ['/v1/chat/completions', { ...chat, logit_bias: { 1048576: 1 } }, 'logit_bias', 'invalid_value'],
    ['/v1/chat/completions', { ...chat, min_p: 2 }, 'min_p', 'invalid_value'],
    ['/v1/chat/completions', { ...chat, top_logprobs: 3 }, 'top_logprobs', null],
    ['/v1/completions', { model: 'tiny-moe', prompt: 'x', logprobs: 6 }, 'logprobs', null],
    ['/v1/completions', { model: 'tiny-moe', prompt: 'x', repetition_penalty: 'x' }, 'repetition_penalty', 'invalid_value'],
  ])('out of range is refused: %s %j', async (path, body, param, code) => {
    const response = await harness.post(path, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error', param, code } });
    expect(harness.fabric.events).toEqual([]);
  });
});

describe('log-probabilities over HTTP', () => {
  it('come with a whole chat answer, one entry a token', async () => {
    const { choices, usage } = await harness.openai.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 });
    const content = choices[0]?.logprobs?.content ?? [];
    expect(content).toHaveLength(usage?.completion_tokens ?? 0);
    expect(joined(content)).toBe(TEXT);
    const top = [0, 1].map((id) => expect.objectContaining({ logprob: -id - 1, bytes: bytesOf(id) }));
    expect(content).toEqual(
      answer.map((id, i) => ({
        token: expect.any(String),
        bytes: bytesOf(id),
        logprob: logprobAt(i),
        top_logprobs: top,
      })),
    );
    expect(content.map(({ token }) => token).filter((token) => token.startsWith('bytes:\\x'))).not.toHaveLength(0);
  });

  it('are null when nobody asks', async () => {
    const { choices } = await harness.openai.chat.completions.create(chat);
    expect(choices[0]?.logprobs).toBeNull();
  });

  it('come with completions, in their form', async () => {
    const asked = { model: 'tiny-moe', prompt: 'x', logprobs: 2 };
    const { choices } = await harness.openai.completions.create(asked);
    const { tokens = [], token_logprobs: values, top_logprobs: tops, text_offset: offsets } = choices[0]?.logprobs ?? {};
    expect(values).toEqual(answer.map((_, i) => logprobAt(i)));
    expect(tops).toHaveLength(answer.length);
    tops?.forEach((top, i) => expect(top[tokens[i] ?? '']).toBe(values?.[i]));
    const characters = Array.from(TEXT);
    tokens.forEach((token, i) => {
      if (!token.startsWith('bytes:')) expect(characters.slice(offsets?.[i]).join('')).toMatch(new RegExp(`^${token}`));
    });
    const streamed: unknown[] = [];
    for await (const chunk of await harness.openai.completions.create({ ...asked, stream: true })) {
      streamed.push(...(chunk.choices[0]?.logprobs?.token_logprobs ?? []));
    }
    expect(streamed).toEqual(values);
  });

  it.each(['fast', 'exact'])('survive the loss of a decode worker, each once (recovery %s)', async (recovery) => {
    await using run = await startHarness({
      workers: ['prefill-0', 'decode-0', 'decode-1'],
      env: { CAUSEWAY_RECOVERY: recovery },
    });
    const entries: { logprob: number; bytes: number[] | null; top_logprobs: unknown[] }[] = [];
    let killed: Promise<void> | undefined;
    const beforeToken = async (position: number, { worker, signal }: FakeCall): Promise<void> => {
      if (position !== 4 || killed !== undefined) return;
      await eventually(() => entries.length >= 4);
      killed = run.worker(worker).kill();
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
    };
    run.play({ answer, beforeToken });
    const body = { ...chat, ...penalties, ...extensions, seed: 3, logprobs: true, top_logprobs: 1 };
    for await (const chunk of await run.openai.chat.completions.create({ ...body, stream: true })) {
      entries.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    }
    await killed;
    expect(entries.map(({ logprob }) => logprob)).toEqual(answer.map((_, i) => logprobAt(i)));
    expect(entries.every(({ top_logprobs: top }) => top.length === 1)).toBe(true);
    expect(joined(entries)).toBe(TEXT);
    // The second attempt chooses as the first did, and can tell which tokens are answer.
    const [first, second] = run.fabric.of('reserve').map(({ generation }) => generation);
    expect(second?.sampling).toEqual(first?.sampling);
    expect(second?.sampling).toMatchObject(SAMPLING);
    expect(second?.firstPosition).toBe(4);
    expect([...(second?.promptIds ?? []), ...(second?.replayIds ?? [])].slice(-4)).toEqual(answer.slice(0, 4));
  });
});

describe('the same over gRPC', () => {
  const input = { $case: 'prompt' as const, value: 'hello' };

  async function generate(
    more: Parameters<typeof inferenceV1.GenerateRequest.fromPartial>[0],
  ): Promise<inferenceV1.GenerateResponse[]> {
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
    const all: inferenceV1.GenerateResponse[] = [];
    for await (const message of client.generate(inferenceV1.GenerateRequest.fromPartial({ input, ...more }))) all.push(message);
    return all;
  }

  it('reaches both workers', async () => {
    const { logitBias: _list, ...values } = SAMPLING;
    await generate({
      sampling: { ...values, logitBias: { 7: -100, 9: 1.5 } },
      stopTokenIds: [7, 9],
      ignoreEos: true,
      logprobs: 4,
    });
    const at = harness.fabric.of('reserve')[0]?.generation;
    expect(at).toMatchObject({ stopTokenIds: [7, 9], ignoreEos: true, topLogprobs: 4, sampling: SAMPLING });
    expect(harness.fabric.of('prefill')[0]?.generation).toEqual(at);
  });

  it('log-probabilities come with each token when asked for', async () => {
    const entries = (await generate({ logprobs: 1 })).flatMap(({ logprobs }) => logprobs);
    expect(entries.map(({ id, logprob }) => [id, logprob])).toEqual(answer.map((id, i) => [id, logprobAt(i)]));
    expect(Buffer.concat(entries.map(({ bytes }) => bytes)).toString()).toBe(TEXT);
    expect(entries.every(({ top }) => top.length === 1)).toBe(true);
    expect((await generate({})).flatMap(({ logprobs }) => logprobs)).toEqual([]);
  });

  it.each([
    [{ sampling: { minP: Number.NaN } }, 'bad_sampling', 'sampling.min_p'],
    [{ sampling: { repetitionPenalty: 0 } }, 'bad_sampling', 'sampling.repetition_penalty'],
    [{ sampling: { presencePenalty: Number.POSITIVE_INFINITY } }, 'bad_sampling', 'sampling.presence_penalty'],
    [{ sampling: { frequencyPenalty: -2.5 } }, 'bad_sampling', 'sampling.frequency_penalty'],
    [{ sampling: { logitBias: { 5: Number.NaN } } }, 'bad_sampling', 'sampling.logit_bias[5]'],
    [{ sampling: { logitBias: { 1048576: 1 } } }, 'invalid_token', 'logit_bias'],
    [{ stopTokenIds: [1 << 20] }, 'invalid_token', 'stop_token_ids[0]'],
    [{ logprobs: 21 }, 'bad_request', 'logprobs'],
  ])('refuses %j', async (more, reason, field) => {
    await expect(generate(more)).rejects.toMatchObject({ code: 'invalid_argument', reason, field });
    expect(harness.fabric.events).toEqual([]);
  });
});
