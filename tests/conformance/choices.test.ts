/** Several answers per prompt, through OpenAI's own client and over gRPC. */
import type { Tokenizer } from '@causeway/model-files';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { eventually } from '@causeway/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { aborted, type Causeway, messages, streamed, TEXTS } from './choice-streams.ts';
import { logprobAt, RAW_BYTES, SENT_BYTES } from './fake-numbers.ts';
import { type FakeCall } from './fake-worker.ts';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

const chat = { model: 'tiny-moe', messages, n: 3 };
const completion = { model: 'tiny-moe', prompt: 'x' };

let harness: Harness;
let tokenizer: Tokenizer;
let answers: number[][];
let script: { answer: number[]; answers: number[][] };

beforeAll(async () => {
  tokenizer = await testTokenizer();
  answers = TEXTS.map((text) => tokenizer.encode(text));
  script = { answer: answers[0] as number[], answers };
  harness = await startHarness();
});
beforeEach(() => harness.play(script));
afterEach(() => harness.quiet());
afterAll(() => harness?.[Symbol.asyncDispose]());

const tokensOf = (indexes: readonly number[]): number => indexes.reduce((sum, i) => sum + (answers[i]?.length ?? 0), 0);

describe('several answers', () => {
  it('come whole, each with its index, text and end; the prompt is read, sent and counted once', async () => {
    harness.play({ ...script, endsWith: 'stop' });
    const { choices, usage } = await harness.openai.chat.completions.create({ ...chat, seed: 40 });
    // A token that ends an answer by itself is no text.
    const texts = answers.map((ids) => tokenizer.decode(ids.slice(0, -1)));
    expect(choices.map(({ index, message, finish_reason: reason }) => [index, message.content, reason])).toEqual(
      texts.map((text, i) => [i, text, 'stop']),
    );
    const [reserve, ...others] = harness.fabric.of('reserve');
    expect(others).toEqual([]);
    const { promptIds, choices: asked } = reserve?.generation ?? {};
    expect(asked?.map(({ index, seed, replayIds }) => [index, seed, replayIds])).toEqual([
      [0, 40n, []],
      [1, 41n, []],
      [2, 42n, []],
    ]);
    expect(harness.fabric.of('prefill').map(({ generation }) => generation)).toEqual([reserve?.generation]);
    expect(usage).toMatchObject({ prompt_tokens: promptIds?.length, completion_tokens: tokensOf([0, 1, 2]) });
    expect((usage as unknown as Causeway).causeway).toMatchObject({
      outcome: 'used',
      bytes_raw: RAW_BYTES,
      bytes_sent: SENT_BYTES,
      attempts: 1,
    });
  });

  it('come streamed, mixed, each with one end; the usage comes with the last', async () => {
    const options = { stream: true as const, stream_options: { include_usage: true } };
    const seen = await streamed(await harness.openai.chat.completions.create({ ...chat, ...options }));
    expect(seen.texts).toEqual(TEXTS);
    expect(seen.roles).toBe(3);
    expect(seen.finishes.map(({ index }) => index)).toEqual([2, 0, 1]);
    expect(seen.finishes.map(({ usage }) => usage ?? null)).toEqual([
      null,
      null,
      expect.objectContaining({ causeway: expect.anything() }),
    ]);
    expect(seen.chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: tokensOf([0, 1, 2]) } });
    // Not one answer after the other.
    const order = seen.chunks.flatMap(({ choices }) => choices.map(({ index }) => index)).slice(3);
    expect(order.lastIndexOf(0)).toBeGreaterThan(order.indexOf(1));
    expect(order.lastIndexOf(1)).toBeGreaterThan(order.indexOf(0));
  });

  it('can be read by the streaming helper of the client', async () => {
    const { choices } = await harness.openai.chat.completions.stream(chat).finalChatCompletion();
    expect(choices.map(({ message }) => message.content)).toEqual(TEXTS);
  });

  it('carry their own log-probabilities, in both forms', async () => {
    const whole = await harness.openai.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 1 });
    for (const { index, logprobs } of whole.choices) {
      expect(logprobs?.content?.map(({ logprob }) => logprob)).toEqual(answers[index]?.map((_, i) => logprobAt(i)));
      expect(Buffer.from(logprobs?.content?.flatMap(({ bytes }) => bytes ?? []) ?? []).toString()).toBe(TEXTS[index]);
    }
    const { choices } = await harness.openai.completions.create({ ...completion, n: 3, logprobs: 1 });
    for (const { index, logprobs } of choices) {
      expect(logprobs?.token_logprobs).toEqual(answers[index]?.map((_, i) => logprobAt(i)));
      expect(logprobs?.text_offset?.[0]).toBe(0);
    }
  });

  it('are cut to max_tokens each; ended by it at the first token they need no KV', async () => {
    const { choices, usage } = await harness.openai.chat.completions.create({ ...chat, max_tokens: 2 });
    expect(choices.map(({ finish_reason: reason }) => reason)).toEqual(['length', 'length', 'length']);
    expect(usage?.completion_tokens).toBe(6);
    harness.play({ ...script, beforeCommit: (call) => aborted(call.signal) });
    const one = await harness.openai.chat.completions.create({ ...chat, max_tokens: 1 });
    expect(one.choices.map(({ message }) => message.content)).toEqual(answers.map((ids) => tokenizer.decode(ids.slice(0, 1))));
    expect((one.usage as unknown as Causeway).causeway).toMatchObject({ outcome: 'not_needed', bytes_sent: 0 });
  });

  it('stop at a stop string each by itself: the worker is told, the others go on', async () => {
    const told = (): number => harness.fabric.of('stop_choice').length;
    harness.play({
      ...script,
      beforeToken: async (position, _call, choice) => {
        if (choice === 0 && position === (answers[0]?.length ?? 0) - 1) await eventually(() => told() > 0);
      },
    });
    const body = { ...chat, stop: ['second'], stream: true as const };
    const seen = await streamed(await harness.openai.chat.completions.create(body));
    expect(seen.texts).toEqual([TEXTS[0], 'a ', TEXTS[2]]);
    expect(seen.finishes.find(({ index }) => index === 1)?.reason).toBe('stop');
    expect(seen.finishes.filter(({ index }) => index !== 1).map(({ reason }) => reason)).toEqual(['length', 'length']);
    expect(harness.fabric.of('stop_choice').some(({ choice }) => choice === 1)).toBe(true);
    const written = harness.fabric.of('token').filter(({ choice }) => choice === 1);
    expect(written.length).toBeLessThan((answers[1]?.length ?? 0) - 1);
  });

  it('end everywhere when the client goes away', async () => {
    harness.play({ ...script, beforeToken: async (position, call) => (position < 2 ? undefined : aborted(call.signal)) });
    const client = new AbortController();
    const stream = await harness.openai.chat.completions.create({ ...chat, stream: true }, { signal: client.signal });
    for await (const chunk of stream) if (chunk.choices[0]?.index === 2) client.abort();
    await harness.quiet();
    expect(harness.fabric.of('decode ended')).toHaveLength(1);
    expect(harness.fabric.of('token').every(({ position }) => (position ?? 0) < 2)).toBe(true);
    expect(await harness.metric('causeway_router_queue_depth')).toBe(0);
  });

  it('best_of is taken when it says the same as n, else refused', async () => {
    const { choices } = await harness.openai.completions.create({ ...completion, n: 2, best_of: 2 });
    expect(choices.map(({ text }) => text)).toEqual(TEXTS.slice(0, 2));
    const refused = harness.openai.completions.create({ ...completion, n: 2, best_of: 3 });
    await expect(refused).rejects.toMatchObject({ status: 400, param: 'best_of', code: 'unsupported_parameter' });
  });

  it.each([0, 17, -1, 2.5, '2', true])('n = %j is refused', async (n) => {
    const response = await harness.post('/v1/chat/completions', { ...chat, n });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: 'n', message: expect.stringContaining('from 1 to 16') } });
    expect(harness.fabric.events).toEqual([]);
  });

  it('are counted as the worker will run them', async () => {
    await using run = await startHarness({ worker: { maxSequences: 2 } });
    const gate = Promise.withResolvers<void>();
    run.play({ ...script, beforeToken: () => gate.promise });
    // Twice as many as it runs may be given to a worker: these are that many.
    const first = run.openai.chat.completions.create({ ...chat, n: 4 });
    await eventually(() => run.fabric.of('reserve').length === 1);
    const second = run.openai.chat.completions.create({ ...chat, n: 1 });
    await eventually(async () => (await run.metric('causeway_router_queue_depth')) === 1);
    expect(run.fabric.of('reserve')).toHaveLength(1);
    gate.resolve();
    expect((await first).choices).toHaveLength(4);
    expect((await second).choices).toHaveLength(1);
  });
});

describe('the loss of a worker', () => {
  it.each(['fast', 'exact'])(
    'in mid answer: every answer goes on, none loses or doubles a token (recovery %s)',
    async (recovery) => {
      await using run = await startHarness({
        workers: ['prefill-0', 'decode-0', 'decode-1'],
        env: { CAUSEWAY_RECOVERY: recovery },
      });
      const texts: string[] = ['', '', ''];
      let killed: Promise<void> | undefined;
      // The third answer is over by then; the others are at different places.
      const beforeToken = async (position: number, call: FakeCall, choice: number): Promise<void> => {
        if (killed !== undefined || choice !== 1 || position !== 4) return;
        await eventually(() => texts[2] === TEXTS[2]);
        killed = run.worker(call.worker).kill();
        await aborted(call.signal);
      };
      run.play({ ...script, beforeToken });
      let attempts: unknown;
      let completionTokens: number | undefined;
      for await (const chunk of await run.openai.chat.completions.create({ ...chat, seed: 9, stream: true })) {
        for (const { index, delta } of chunk.choices) texts[index] += delta.content ?? '';
        completionTokens ??= chunk.usage?.completion_tokens;
        attempts ??= (chunk.usage as unknown as Causeway | undefined)?.causeway['attempts'];
      }
      await killed;
      expect(texts).toEqual(TEXTS);
      expect([attempts, completionTokens]).toEqual([2, tokensOf([0, 1, 2])]);
      const [first, second] = run.fabric.of('reserve').map(({ generation }) => generation);
      // The prompt alone is read again; what each answer has is replayed.
      expect(second?.promptIds).toEqual(first?.promptIds);
      expect(second?.choices.map(({ index, seed }) => [index, seed])).toEqual([
        [0, 9n],
        [1, 10n],
      ]);
      for (const { index, replayIds, firstPosition, maxTokens } of second?.choices ?? []) {
        expect(replayIds).toEqual(answers[index]?.slice(0, firstPosition));
        expect(maxTokens).toBe((first?.maxTokens ?? 0) - firstPosition);
        expect(firstPosition).toBeGreaterThan(3);
      }
    },
  );

  it('that writes the last answer left: it goes on as a single one, under its own index', async () => {
    await using run = await startHarness({ workers: ['prefill-0', 'decode-0', 'decode-1'] });
    let text = '';
    let killed: Promise<void> | undefined;
    const beforeToken = async (position: number, call: FakeCall, choice: number): Promise<void> => {
      const last = (answers[1]?.length ?? 0) - 1;
      if (killed !== undefined || choice !== 1 || position !== last) return;
      await eventually(() => text === tokenizer.decode(answers[1]?.slice(0, last) ?? []));
      killed = run.worker(call.worker).kill();
      await aborted(call.signal);
    };
    run.play({ ...script, beforeToken });
    for await (const chunk of await run.openai.chat.completions.create({ ...chat, stream: true })) {
      for (const { index, delta } of chunk.choices) if (index === 1) text += delta.content ?? '';
    }
    await killed;
    expect(text).toBe(TEXTS[1]);
    const [first, second] = run.fabric.of('reserve').map(({ generation }) => generation);
    expect(second?.choices).toMatchObject([{ index: 1, replayIds: [] }]);
    expect(second?.promptIds).toEqual([...(first?.promptIds ?? []), ...(answers[1]?.slice(0, -1) ?? [])]);
  });

  it('before the commit: first tokens that are out stay, the decode worker reads the prompt itself', async () => {
    await using run = await startHarness();
    const texts: string[] = ['', '', ''];
    const beforeCommit = async (call: FakeCall): Promise<void> => {
      await eventually(() => run.fabric.of('first_token').length === 3 && texts.every((text) => text !== ''));
      void run.worker('prefill-0').kill();
      await aborted(call.signal);
    };
    run.play({ ...script, beforeCommit });
    let outcome: unknown;
    for await (const chunk of await run.openai.chat.completions.create({ ...chat, stream: true })) {
      for (const { index, delta } of chunk.choices) texts[index] += delta.content ?? '';
      outcome ??= (chunk.usage as unknown as Causeway | undefined)?.causeway['outcome'];
    }
    expect(texts).toEqual(TEXTS);
    expect(outcome).toBe('recomputed');
    expect(run.fabric.of('first_token').map(({ choice }) => choice)).toEqual([0, 1, 2]);
  });
});

describe('over gRPC', () => {
  async function generate(n: number): Promise<inferenceV1.GenerateResponse[]> {
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
    const request = inferenceV1.GenerateRequest.fromPartial({ input: { $case: 'prompt', value: 'hello' }, n });
    const all: inferenceV1.GenerateResponse[] = [];
    for await (const message of client.generate(request)) all.push(message);
    return all;
  }

  it('several answers come in one stream, each message saying whose it is', async () => {
    const all = await generate(3);
    for (const [choice, text] of TEXTS.entries()) {
      const own = all.filter((message) => message.choice === choice);
      expect(own.map((message) => message.text).join('')).toBe(text);
      expect(own.flatMap(({ tokenIds }) => tokenIds)).toEqual(answers[choice]);
      expect(own.filter(({ finishReason }) => finishReason !== '')).toEqual(own.slice(-1));
    }
    expect(all.filter(({ usage }) => usage !== undefined)).toEqual(all.slice(-1));
    expect(all.at(-1)?.usage).toMatchObject({ completionTokens: tokensOf([0, 1, 2]), kv: { bytesSent: BigInt(SENT_BYTES) } });
  });

  it('n of 0 is one, more than 16 are refused', async () => {
    expect((await generate(0)).flatMap(({ tokenIds }) => tokenIds)).toEqual(answers[0]);
    await expect(generate(17)).rejects.toMatchObject({ code: 'invalid_argument', field: 'n' });
  });
});
