import { describe, expect, it, vi } from 'vitest';
import { absent, generate, generation, never, numbers, randomIds, startEngine } from './testing/start-engine.ts';

/** Of tiny-moe. */
const VOCABULARY = 2048;
const ids = randomIds(numbers(5), 400, VOCABULARY);

describe('ends of an answer', () => {
  it('stops at an end token unless told to ignore it, at stop tokens, at the limit, at the context', async () => {
    await using t = await startEngine('tiny-moe', { maxContext: 100 });
    const free = await generate(t.engine, generation(ids.slice(0, 60), { maxTokens: 30 }));
    const seen = free.map((token) => token.id);
    const last = (tokens: typeof free) => [tokens.length, tokens.at(-1)?.finishReason];
    expect(last(free)).toEqual([30, 'length']);
    const stop = seen[12] as number;
    expect(last(await generate(t.engine, generation(ids.slice(0, 60), { maxTokens: 30, stopTokenIds: [stop] })))).toEqual([
      seen.indexOf(stop) + 1,
      'stop',
    ]);
    expect(last(await generate(t.engine, generation(ids.slice(0, 60), { maxTokens: 1 })))).toEqual([1, 'length']);
    // Prompt and answer fill the context exactly.
    expect(last(await generate(t.engine, generation(ids.slice(0, 60), { maxTokens: 1000 })))).toEqual([40, 'length']);
    expect(last(await generate(t.engine, generation(ids.slice(0, 100), { maxTokens: 9 })))).toEqual([1, 'length']);
    expect(t.pool.freePages).toBe(t.pool.totalPages);
  });

  it('honours end tokens of the model', async () => {
    await using t = await startEngine('tiny-moe');
    const prompt = [1, 3, 421, 283, 264, 613, 292, 1426, 36, 2, 4];
    const tokens = await generate(t.engine, generation(prompt, { ignoreEos: false, maxTokens: 100 }));
    expect(tokens.at(-1)).toMatchObject({ id: 2, finishReason: 'stop' });
    expect(tokens.length).toBe(8);
  });
});

describe('the least number of tokens', () => {
  const prompt = [1, 3, 421, 283, 264, 613, 292, 1426, 36, 2, 4];
  const idsOf = (tokens: readonly { id: number }[]) => tokens.map(({ id }) => id);

  it('keeps end tokens and stop tokens out until it is reached, and changes nothing else', async () => {
    await using t = await startEngine('tiny-moe');
    const run = (more: Parameters<typeof generation>[1]) =>
      generate(t.engine, generation(prompt, { ignoreEos: false, maxTokens: 20, ...more }));
    const free = idsOf(await run({}));
    expect([free.length, free.at(-1)]).toEqual([8, 2]);
    for (const least of [1, 7]) expect(idsOf(await run({ minTokens: least }))).toEqual(free);
    const longer = idsOf(await run({ minTokens: 12 }));
    expect(longer.slice(0, 7)).toEqual(free.slice(0, 7));
    expect(longer.length).toBeGreaterThanOrEqual(12);
    expect(longer.slice(0, 12)).not.toContain(2);
    // The first token, which reading the prompt gives, and any other.
    for (const stop of [free[0], free[3]] as number[]) {
      const without = idsOf(await run({ stopTokenIds: [stop], minTokens: 20, ignoreEos: true }));
      expect(without).toHaveLength(20);
      expect(without).not.toContain(stop);
    }
  });

  it('counts from the beginning of the answer, wherever another worker goes on', async () => {
    await using t = await startEngine('tiny-moe');
    const whole = generation(prompt, { ignoreEos: false, maxTokens: 14, minTokens: 14 });
    const wanted = idsOf(await generate(t.engine, whole));
    const given = Uint32Array.from(wanted.slice(0, 5));
    const rest = { ...whole, replayIds: given, firstPosition: 5, maxTokens: 9 };
    expect(idsOf(await generate(t.engine, rest))).toEqual(wanted.slice(5));
  });
});

describe('bad input', () => {
  it('is refused with the field and the limit named, and leaves no page behind', async () => {
    await using t = await startEngine('tiny-moe', { pageCount: 10, maxContext: 100 });
    const refusal = async (more: Parameters<typeof generation>[1], reason: string, prompt = [1, 2]) => {
      const g = generation(prompt, more);
      using pages = await t.engine.reserve(16, never);
      await expect(t.engine.prefill(g, pages, never)).rejects.toMatchObject({ code: 'invalid_argument', reason });
      const taken = await t.engine.reserve(16, never);
      expect(() => t.engine.decode(g, taken, undefined, never)).toThrow(expect.objectContaining({ reason }));
    };
    await refusal({}, 'empty_prompt', []);
    await refusal({}, 'prompt_too_long', ids.slice(0, 101));
    await refusal({ replayIds: Uint32Array.from(ids.slice(0, 99)) }, 'prompt_too_long');
    await refusal({}, 'invalid_token', [1, VOCABULARY]);
    await refusal({ maxTokens: 0 }, 'bad_request');
    await refusal({ maxTokens: Number.NaN }, 'bad_request');
    for (const minTokens of [-1, 0.5, Number.NaN]) await refusal({ minTokens }, 'bad_request');
    const greedy = { temperature: 0, topP: 1, topK: 0, seed: 0n };
    await refusal({ sampling: { ...greedy, temperature: Number.NaN } }, 'bad_sampling');
    await refusal({ sampling: { ...greedy, temperature: -1 } }, 'bad_sampling');
    await refusal({ sampling: { ...greedy, topP: 0 } }, 'bad_sampling');
    await refusal({ sampling: { ...greedy, topK: 1.5 } }, 'bad_sampling');
    await expect(t.engine.reserve(161, never)).rejects.toMatchObject({ code: 'resource_exhausted', reason: 'no_capacity' });
    await expect(t.engine.reserve(0, never)).rejects.toMatchObject({ code: 'invalid_argument' });
    expect(t.pool.freePages).toBe(10);
  });

  it('nothing is decoded from pages that are not committed or too few', async () => {
    await using t = await startEngine('tiny-moe');
    const raw = await t.engine.reserve(16, never);
    expect(() => t.engine.decode(generation([1, 2, 3]), raw, undefined, never)).toThrow(
      expect.objectContaining({ reason: 'not_committed' }),
    );
    const few = await t.engine.reserve(16, never);
    await expect(t.engine.prefill(generation(ids.slice(0, 17)), few, never)).rejects.toMatchObject({ code: 'invalid_argument' });
    few[Symbol.dispose]();
    expect(t.pool.freePages).toBe(t.pool.totalPages);
  });

  it('limits that make no sense are refused at the start', async () => {
    for (const bad of [{ chunkTokens: 3 }, { maxSequences: 0 }, { maxContext: 1.5 }]) {
      await expect(startEngine('tiny-moe', bad)).rejects.toMatchObject({ reason: 'bad_config' });
    }
  });
});

describe('cancel', () => {
  it('ends a prefill between or within chunks: no later onTokens, pages back', async () => {
    await using t = await startEngine('tiny-moe', { chunkTokens: 16 });
    const controller = new AbortController();
    const pages = await t.engine.reserve(400, never);
    const ends: number[] = [];
    const reading = t.engine.prefill(generation(ids), pages, controller.signal, (end) => {
      ends.push(end);
      if (end >= 64) controller.abort();
    });
    await expect(reading).rejects.toMatchObject({ code: 'cancelled' });
    const at = ends.length;
    pages[Symbol.dispose]();
    // Another prompt passes through the whole loop meanwhile.
    await generate(t.engine, generation(ids.slice(0, 30), { maxTokens: 4 }));
    expect(ends.length).toBe(at);
    expect(ends).toEqual([16, 32, 48, 64]);
    expect(t.engine.stats()).toMatchObject({ running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 256 });
    expect(t.errors).toEqual([]);
  });

  it.skipIf(absent('smollm2'))('terminates the run of a chunk that serves only the cancelled prompt', async () => {
    await using t = await startEngine('smollm2', { maxContext: 512, chunkTokens: 512, debug: {} });
    const prompt = generation(ids, { maxTokens: 1 });
    const short = generation([1, 2], { maxTokens: 1 });
    await generate(t.engine, prompt);
    const start = performance.now();
    await generate(t.engine, prompt);
    const wholeMs = performance.now() - start;
    const controller = new AbortController();
    const cancelled = generate(t.engine, prompt, controller.signal).catch((error: { code: string }) => error.code);
    await vi.waitFor(() => expect(t.engine.stats().running).toBe(1), { interval: 1 });
    await new Promise((resolve) => setTimeout(resolve, wholeMs / 10));
    controller.abort();
    const aborted = performance.now();
    expect(await cancelled).toBe('cancelled');
    // The loop is free for the next prompt long before the chunk would have ended.
    await generate(t.engine, short);
    expect(performance.now() - aborted).toBeLessThan(wholeMs * 0.6);
    expect(t.errors).toEqual([]);
  });

  it('a reader who stops early gives everything back; one who never reads is ended by the signal', async () => {
    await using t = await startEngine('tiny-moe');
    const g = generation(ids.slice(0, 50), { maxTokens: 500 });
    const controller = new AbortController();
    const start = async (signal: AbortSignal) => {
      const pages = await t.engine.reserve(t.engine.room(g), never);
      const { first } = await t.engine.prefill(g, pages, never);
      return t.engine.decode(g, pages, first, signal);
    };
    const unread = await start(controller.signal);
    let count = 0;
    for await (const _ of await start(never)) if (++count === 5) break;
    controller.abort();
    await expect(unread[Symbol.asyncIterator]().next().then(drain(unread))).rejects.toMatchObject({ code: 'cancelled' });
    await generate(t.engine, generation([1, 2, 3], { maxTokens: 3 }));
    expect(t.engine.stats()).toMatchObject({ running: 0, waiting: 0, freePages: 256 });
  });
});

/** Reads on until the end. */
function drain(stream: AsyncIterable<unknown>): () => Promise<void> {
  return async () => {
    for await (const _ of stream) void _;
  };
}

describe('load', () => {
  it('queues what does not fit, in order, and reports it', async () => {
    await using t = await startEngine('tiny-moe', { maxSequences: 2, pageCount: 30, initialGrowth: 16 });
    const finished: number[] = [];
    const all = Array.from({ length: 10 }, (_, i) =>
      generate(t.engine, generation(ids.slice(0, 100), { maxTokens: 12 })).then(() => finished.push(i)),
    );
    await new Promise((resolve) => setImmediate(resolve));
    const { waiting, queuedPromptTokens } = t.engine.stats();
    expect(waiting).toBeGreaterThanOrEqual(8);
    expect(queuedPromptTokens).toBeGreaterThan(0);
    await Promise.all(all);
    expect(finished).toEqual([...finished].sort((a, b) => a - b));
    expect(t.engine.stats()).toMatchObject({ waiting: 0, running: 0, prefillTokens: 1000, decodedTokens: 110 });
  });

  it('keeps decoding while a long prompt is read, and never holds the event loop for long', async () => {
    // CPU time, but garbage collection and cold caches count too where others run: the quietest of a few runs decides.
    let longest = { ms: Number.POSITIVE_INFINITY, part: '' };
    for (let run = 0; run < 5 && longest.ms >= 5; run++) {
      const steps: string[] = [];
      await using t = await startEngine('tiny-moe', {
        chunkTokens: 32,
        debug: {},
        hooks: { onStep: () => steps.push('step'), onPrefillChunk: () => steps.push('chunk') },
      });
      const short = generate(t.engine, generation(ids.slice(0, 20), { maxTokens: 60 }));
      while (t.engine.stats().decodedTokens === 0) await new Promise((resolve) => setImmediate(resolve));
      await generate(t.engine, generation(ids.slice(0, 320), { maxTokens: 2 }));
      await short;
      // Ten chunks with a decode step after each.
      expect(steps.join(' ')).toMatch(/(chunk step ){9,}/);
      const { longestSectionMs, longestSection } = t.engine.stats();
      if (longestSectionMs < longest.ms) longest = { ms: longestSectionMs, part: longestSection };
    }
    expect(longest.ms, longest.part).toBeLessThan(5);
  });
});
