/** Several prompts per request, and prompts given back, through OpenAI's own client. */
import type { Tokenizer } from '@causeway/model-files';
import { eventually } from '@causeway/testkit';
import type OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { aborted, type Causeway, messages, streamed, TEXTS } from './choice-streams.ts';
import { logprobAt, promptLogprobAt, SENT_BYTES } from './fake-numbers.ts';
import { type FakeCall } from './fake-worker.ts';
import { type Harness, startHarness, testTokenizer } from './harness.ts';

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

describe('several prompts', () => {
  it('are answered each, choices counted over all of them', async () => {
    const prompt = ['one', 'another one', 'x'];
    const { choices, usage } = await harness.openai.completions.create({ ...completion, prompt, n: 2, seed: 3 });
    expect(choices.map(({ index, text }) => [index, text])).toEqual([0, 1, 2, 3, 4, 5].map((i) => [i, TEXTS[i % 2]]));
    const reserved = harness.fabric.of('reserve').map(({ generation }) => generation);
    const ids = prompt.map((text) => tokenizer.encode(text));
    expect(reserved.map((generation) => generation?.promptIds)).toEqual(expect.arrayContaining(ids));
    // As a request of its own would have them: the same seeds for each prompt.
    for (const generation of reserved) expect(generation?.choices.map(({ seed }) => seed)).toEqual([3n, 4n]);
    expect(usage).toMatchObject({
      prompt_tokens: ids.flat().length,
      completion_tokens: 3 * tokensOf([0, 1]),
      causeway: { outcome: 'used', bytes_sent: 3 * SENT_BYTES, attempts: 3, decode_worker: 'decode-0' },
    });
  });

  it('come streamed, and as token ids', async () => {
    const prompt = [[5, 6], [7]];
    const seen = await streamed(await harness.openai.completions.create({ ...completion, prompt, stream: true }));
    expect(seen.texts).toEqual([TEXTS[0], TEXTS[0]]);
    expect(new Set(seen.finishes.map(({ index }) => index))).toEqual(new Set([0, 1]));
    expect(seen.finishes.map(({ usage }) => usage !== undefined && usage !== null)).toEqual([false, true]);
    expect(harness.fabric.of('reserve').map(({ generation }) => generation?.promptIds)).toEqual(expect.arrayContaining(prompt));
  });

  it('are more than are answered at a time', async () => {
    const prompt = Array.from({ length: 20 }, (_, i) => `prompt ${i}`);
    const { choices } = await harness.openai.completions.create({ ...completion, prompt });
    expect(choices.map(({ index, text }) => [index, text])).toEqual(prompt.map((_, i) => [i, TEXTS[0]]));
    expect(harness.fabric.of('reserve')).toHaveLength(20);
  });

  it.each([
    [['fine', ''], 'prompt[1]'],
    [['fine', 7], 'prompt[1]'],
    [[[1], [2, 1 << 20]], 'prompt[1][1]'],
    [[[1], Array.from({ length: 600 }, () => 1)], 'prompt[1]'],
    [['fine', 'word '.repeat(1000)], 'prompt[1]'],
    [Array.from({ length: 65 }, () => 'x'), 'prompt'],
  ])('a bad one is named and nothing begins', async (prompt, param) => {
    const response = await harness.post('/v1/completions', { ...completion, prompt });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param } });
    expect(harness.fabric.events).toEqual([]);
  });

  it('the failure of one ends all of them', async () => {
    await using run = await startHarness({ env: { CAUSEWAY_MAX_ATTEMPTS: '1' } });
    run.play({
      ...script,
      beforeToken: async (position, call) => {
        if (call.generation.promptIds[0] !== 5) await aborted(call.signal);
        await eventually(() => run.fabric.of('reserve').length === 3);
        if (position === 1) throw new Error('broken');
      },
    });
    const stream = await run.openai.completions.create({ ...completion, prompt: [[5], [6], [7]], stream: true });
    await expect(streamed(stream)).rejects.toThrow(/gave up after 1 attempt/);
    await run.quiet();
    expect(run.fabric.of('decode ended')).toHaveLength(3);
  });

  it('each count towards what the router takes in', async () => {
    await using run = await startHarness({ env: { CAUSEWAY_MAX_IN_FLIGHT: '2' } });
    run.play(script);
    const refused = run.openai.completions.create({ ...completion, prompt: ['a', 'b', 'c'] });
    await expect(refused).rejects.toMatchObject({ status: 429 });
    const { choices } = await run.openai.completions.create({ ...completion, prompt: ['a', 'b'] });
    expect(choices).toHaveLength(2);
  });
});

describe('echo', () => {
  const prompt = 'Once upon a 😀 time, ';

  it('gives the prompt before each answer, whole and streamed', async () => {
    const asked = { ...completion, prompt, echo: true, n: 2 };
    const { choices, usage } = await harness.openai.completions.create(asked);
    expect(choices.map(({ text }) => text)).toEqual([prompt + TEXTS[0], prompt + TEXTS[1]]);
    expect(usage).toMatchObject({ prompt_tokens: tokenizer.encode(prompt).length, completion_tokens: tokensOf([0, 1]) });
    const seen = await streamed(await harness.openai.completions.create({ ...asked, stream: true }));
    expect(seen.texts).toEqual([prompt + TEXTS[0], prompt + TEXTS[1]]);
  });

  it('is no place for stop strings', async () => {
    const { choices } = await harness.openai.completions.create({ ...completion, prompt, echo: true, stop: 'upon' });
    expect(choices[0]?.text).toBe(prompt + TEXTS[0]);
  });

  it('of token ids is what they stand for', async () => {
    const ids = [prompt, 'b'].map((text) => tokenizer.encode(text));
    const { choices } = await harness.openai.completions.create({ ...completion, prompt: ids, echo: true });
    expect(choices.map(({ text }) => text)).toEqual(ids.map((one) => tokenizer.decodeAll(one) + TEXTS[0]));
    expect(choices[0]?.text).toContain(prompt.trim());
  });

  it('with max_tokens 0 is the prompt alone: no worker is asked', async () => {
    const asked = { ...completion, prompt: [prompt, 'b'], echo: true, max_tokens: 0, n: 2 };
    const { choices, usage } = await harness.openai.completions.create(asked);
    expect(choices.map(({ text, finish_reason: reason }) => [text, reason])).toEqual(
      [prompt, prompt, 'b', 'b'].map((text) => [text, 'length']),
    );
    expect(usage).toMatchObject({ completion_tokens: 0, causeway: { outcome: 'not_needed', attempts: 0 } });
    const seen = await streamed(await harness.openai.completions.create({ ...asked, stream: true }));
    expect(seen.texts).toEqual([prompt, prompt, 'b', 'b']);
    expect(seen.finishes).toHaveLength(4);
    expect(harness.fabric.events).toEqual([]);
  });

  describe('with logprobs', () => {
    /** Log-probabilities of one choice, put together from its chunks. */
    type Logprobs = OpenAI.Completion['choices'][number]['logprobs'];
    const expected = (ids: readonly number[], answer: readonly number[]) => [
      null,
      ...ids.slice(1).map((_, i) => promptLogprobAt(i + 1)),
      ...answer.map((_, i) => logprobAt(i)),
    ];

    function check(logprobs: Logprobs, text: string, ids: readonly number[], answer: readonly number[]): void {
      const { tokens = [], token_logprobs: values, top_logprobs: tops, text_offset: offsets = [] } = logprobs ?? {};
      expect(values).toEqual(expected(ids, answer));
      expect(tops?.[0]).toBeNull();
      expect(tops?.slice(1).every((top) => top !== null && Object.keys(top).length >= 2)).toBe(true);
      const all = Array.from(text);
      tokens.forEach((token, i) => {
        if (!token.startsWith('bytes:')) expect(all.slice(offsets[i]).join('').startsWith(token)).toBe(true);
      });
    }

    it.each(['disaggregated', 'local'])('carries those of the prompt before those of each answer (%s)', async (placement) => {
      const ids = tokenizer.encode(prompt);
      const asked = { ...completion, prompt, echo: true, logprobs: 2, n: 2, causeway: { placement } };
      const { choices } = await harness.openai.completions.create(asked);
      choices.forEach(({ text, logprobs }, i) => {
        expect(text).toBe(prompt + TEXTS[i]);
        check(logprobs, text, ids, answers[i] ?? []);
      });
      const seen = await streamed(
        await harness.openai.completions.create({ ...asked, stream: true } as typeof asked & { stream: true }),
      );
      expect(seen.texts).toEqual([prompt + TEXTS[0], prompt + TEXTS[1]]);
      const values = (index: number) =>
        seen.chunks.flatMap(({ choices: list }) => {
          const [choice] = list as OpenAI.CompletionChoice[];
          return choice?.index === index ? (choice.logprobs?.token_logprobs ?? []) : [];
        });
      expect([values(0), values(1)]).toEqual([0, 1].map((i) => expected(ids, answers[i] ?? [])));
      expect(harness.fabric.of('reserve').every(({ generation }) => generation?.promptLogprobs === 2)).toBe(true);
    });

    it('and max_tokens 0 is the prompt alone, of each of several', async () => {
      const prompts = [prompt, 'x', 'another'];
      const asked = { ...completion, prompt: prompts, echo: true, logprobs: 1, max_tokens: 0 };
      const { choices, usage } = await harness.openai.completions.create(asked);
      choices.forEach(({ text, logprobs, finish_reason: reason }, i) => {
        expect([text, reason]).toEqual([prompts[i], 'length']);
        const ids = tokenizer.encode(prompts[i] ?? '');
        expect(logprobs?.token_logprobs).toEqual(expected(ids, []));
      });
      expect(usage).toMatchObject({
        completion_tokens: 0,
        prompt_tokens: prompts.flatMap((text) => tokenizer.encode(text)).length,
      });
    });

    it('goes on with the scores of another prefill worker when one dies between them', async () => {
      await using run = await startHarness({ workers: ['prefill-0', 'prefill-1', 'decode-0'] });
      let killed: Promise<void> | undefined;
      const beforeScores = async (position: number, call: FakeCall): Promise<void> => {
        if (position === 1 || killed !== undefined) return;
        killed = run.worker(call.worker).kill();
        await aborted(call.signal);
      };
      run.play({ ...script, beforeScores });
      const { choices, usage } = await run.openai.completions.create({ ...completion, prompt, echo: true, logprobs: 0 });
      await killed;
      expect(choices[0]?.logprobs?.token_logprobs).toEqual(expected(tokenizer.encode(prompt), answers[0] ?? []));
      expect((usage as unknown as Causeway).causeway['attempts']).toBe(2);
    });

    it('and when the decode worker dies later, they are not asked for again', async () => {
      await using run = await startHarness({ workers: ['prefill-0', 'decode-0', 'decode-1'] });
      let killed: Promise<void> | undefined;
      const seen: Logprobs[] = [];
      const beforeToken = async (position: number, call: FakeCall): Promise<void> => {
        if (position !== 3 || killed !== undefined) return;
        await eventually(() => seen.length > 2);
        killed = run.worker(call.worker).kill();
        await aborted(call.signal);
      };
      run.play({ ...script, beforeToken });
      const asked = { ...completion, prompt, echo: true, logprobs: 0, stream: true as const };
      for await (const { choices } of await run.openai.completions.create(asked)) seen.push(choices[0]?.logprobs ?? null);
      await killed;
      const values = seen.flatMap((logprobs) => logprobs?.token_logprobs ?? []);
      expect(values).toEqual(expected(tokenizer.encode(prompt), answers[0] ?? []));
      expect(run.fabric.of('reserve').map(({ generation }) => generation?.promptLogprobs)).toEqual([0, undefined]);
    });
  });

  it.each([
    ['/v1/completions', { ...completion, max_tokens: 0 }, 'max_tokens'],
    ['/v1/completions', { ...completion, echo: 'yes' }, 'echo'],
    ['/v1/chat/completions', { model: 'tiny-moe', messages, echo: true }, 'echo'],
  ])('is refused where it is not served: %s %j', async (path, body, param) => {
    const response = await harness.post(path, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param } });
  });
});
