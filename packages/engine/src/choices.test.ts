/** Several answers to one prompt: each is, in bits, the answer of a request of its own; the prompt is read and kept once. */
import type { PageSet } from '@causeway/kv';
import { describe, expect, it } from 'vitest';
import { bits, generate, generation, never, numbers, randomIds, startEngine, type TestEngine } from './testing/start-engine.ts';
import type { Engine, GeneratedToken, Generation } from './types.ts';

const BLOCK = 16;
const sampling = { temperature: 0.9, topP: 0.95, topK: 0 };

/** `count` answers that differ in their seeds. */
function choices(prompt: readonly number[], count: number, more: Partial<Generation> = {}): Generation[] {
  const one = generation(prompt, more);
  return Array.from({ length: count }, (_, i) => ({ ...one, sampling: { ...sampling, seed: BigInt(i + 5) } }));
}

/** Reads the prompt once and hands the sets out; the base is released. */
async function prefillAndFork(
  engine: Engine,
  all: readonly Generation[],
): Promise<{ firsts: GeneratedToken[]; sets: PageSet[] }> {
  const [first, ...others] = all as [Generation, ...Generation[]];
  using pages = await engine.reserve(engine.room(first, ...others), never);
  const { firsts } = await engine.prefillChoices(all, pages, never);
  return { firsts: firsts as GeneratedToken[], sets: await engine.fork(pages, all) };
}

async function rest(tokens: AsyncIterable<GeneratedToken>): Promise<GeneratedToken[]> {
  const all: GeneratedToken[] = [];
  for await (const token of tokens) all.push(token);
  return all;
}

/** All answers, written together. */
async function together({ engine }: TestEngine, all: readonly Generation[]): Promise<string[]> {
  const { firsts, sets } = await prefillAndFork(engine, all);
  return Promise.all(
    all.map(async (g, i) => {
      const first = firsts[i];
      const tokens = await rest(engine.decode(g, sets[i] as PageSet, first, never));
      return bits(first === undefined ? tokens : [first, ...tokens]);
    }),
  );
}

async function oneByOne({ engine }: TestEngine, all: readonly Generation[]): Promise<string[]> {
  const answers: string[] = [];
  for (const g of all) answers.push(bits(await generate(engine, g)));
  return answers;
}

describe.each(['f32', 'f16'] as const)('answers that share a prompt, %s pages', (dtype) => {
  it.each([1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 70])('of %i tokens are each as alone, in bits', async (length) => {
    await using t = await startEngine('tiny-moe', { dtype });
    const prompt = randomIds(numbers(length), length, t.engine.info.vocabSize);
    const all = choices(prompt, 4, { maxTokens: 2 * BLOCK + 3 });
    const alone = await oneByOne(t, all);
    expect(new Set(alone).size).toBe(4);
    const before = t.engine.stats().prefillTokens;
    expect(await together(t, all)).toEqual(alone);
    expect(t.engine.stats().prefillTokens - before).toBe(length);
    expect(t.pool.freePages).toBe(t.pool.totalPages);
    expect(t.errors).toEqual([]);
  });
});

it('more answers than rows are written as rows become free', async () => {
  await using t = await startEngine('tiny-moe', { maxSequences: 2 });
  const all = choices([5, 6, 7, 8], 5, { maxTokens: 9 });
  expect(await together(t, all)).toEqual(await oneByOne(t, all));
  expect(t.pool.freePages).toBe(t.pool.totalPages);
});

it('answers that nobody knows a first token of begin at the last position of the prompt', async () => {
  await using t = await startEngine('tiny-moe');
  for (const length of [BLOCK, BLOCK + 3]) {
    const all = choices(randomIds(numbers(2), length, t.engine.info.vocabSize), 3, { maxTokens: 6 });
    const { firsts, sets } = await prefillAndFork(t.engine, all);
    const tokens = await Promise.all(all.map((g, i) => rest(t.engine.decode(g, sets[i] as PageSet, undefined, never))));
    expect(tokens.map(([token]) => token?.id)).toEqual(firsts.map(({ id }) => id));
    expect(tokens.every((answer) => answer.length === 6)).toBe(true);
  }
  expect(t.pool.freePages).toBe(t.pool.totalPages);
});

it('answers go on from different places by replaying their own tokens, in bits', async () => {
  await using t = await startEngine('tiny-moe');
  const prompt = randomIds(numbers(4), 21, t.engine.info.vocabSize);
  const all = choices(prompt, 3, { maxTokens: 40 });
  const whole = await Promise.all(all.map((g) => generate(t.engine, g)));
  const known = [0, 7, 33];
  const later = all.map((g, i) => ({
    ...g,
    replayIds: Uint32Array.from((whole[i] ?? []).slice(0, known[i]).map(({ id }) => id)),
    firstPosition: known[i] as number,
    maxTokens: 40 - (known[i] as number),
  }));
  // One array of prompt tokens, as `fork` asks for.
  expect(await together(t, later)).toEqual(whole.map((tokens, i) => bits(tokens.slice(known[i]))));
  expect(t.pool.freePages).toBe(t.pool.totalPages);
});

describe('the pages of several answers', () => {
  it('hold the prompt once, and are reserved all or nothing', async () => {
    await using t = await startEngine('tiny-moe', { pageCount: 32 });
    // 10 whole blocks and a part of one; an answer ends in the second block of its own.
    const prompt = randomIds(numbers(1), 10 * BLOCK + 5, t.engine.info.vocabSize);
    const all = choices(prompt, 4, { maxTokens: BLOCK });
    const { sets } = await prefillAndFork(t.engine, all);
    expect(t.pool.totalPages - t.pool.freePages).toBe(11 + 4 * 2);
    for (const [i, set] of sets.entries()) {
      expect(set.sharedPages).toBe(10);
      expect(set.pages.slice(0, 10)).toEqual(sets[0]?.pages.slice(0, 10));
      expect(new Set(sets.flatMap(({ pages }) => pages.slice(10))).size).toBe(4 * 2);
      expect(Buffer.compare(t.pool.bytes(set.pages[10] as number), t.pool.bytes(sets[(i + 1) % 4]?.pages[10] as number))).toBe(0);
    }
    for (const [i, set] of sets.entries()) {
      set[Symbol.dispose]();
      expect(t.pool.freePages).toBe(i === 3 ? 32 : 32 - 11 - 2 * (3 - i));
    }
  });

  it('are cut to the least when all would not fit with room to grow, and refused when they never will', async () => {
    await using t = await startEngine('tiny-moe', { pageCount: 8, initialGrowth: 64 });
    const all = choices([1, 2, 3], 6, { maxTokens: 64 }) as [Generation, ...Generation[]];
    expect(t.engine.room(...all)).toBe(7 * BLOCK);
    const many = choices([1, 2, 3], 9, { maxTokens: 64 }) as [Generation, ...Generation[]];
    await expect(t.engine.reserve(t.engine.room(...many), never)).rejects.toMatchObject({ reason: 'no_capacity' });
    expect(t.pool.freePages).toBe(8);
  });

  it('return as answers end, while others go on', async () => {
    await using t = await startEngine('tiny-moe');
    const prompt = randomIds(numbers(3), 2 * BLOCK + 1, t.engine.info.vocabSize);
    const all = choices(prompt, 3, { maxTokens: 60 });
    const alone = await oneByOne(t, all);
    const { firsts, sets } = await prefillAndFork(t.engine, all);
    const controllers = all.map(() => new AbortController());
    const streams = all.map((g, i) => t.engine.decode(g, sets[i] as PageSet, firsts[i], controllers[i]?.signal as AbortSignal));
    const [cancelled, left, kept] = streams.map((stream) => stream[Symbol.asyncIterator]());
    await cancelled?.next();
    controllers[0]?.abort();
    await left?.return?.();
    const tokens: GeneratedToken[] = [];
    for (let next = await kept?.next(); next?.done === false; next = await kept?.next()) tokens.push(next.value);
    expect(bits([firsts[2] as GeneratedToken, ...tokens])).toBe(alone[2]);
    expect(t.pool.freePages).toBe(t.pool.totalPages);
    expect(t.errors).toEqual([]);
  });

  it('run out: the youngest answers give way and come back, none fails', async () => {
    await using t = await startEngine('tiny-moe', { pageCount: 13, initialGrowth: 1 });
    const prompt = randomIds(numbers(6), 3 * BLOCK + 4, t.engine.info.vocabSize);
    const all = choices(prompt, 4, { maxTokens: 5 * BLOCK, exactResume: true });
    const answers = await together(t, all);
    expect(t.engine.stats().preemptions).toBeGreaterThan(0);
    expect(t.pool.freePages).toBe(13);
    expect(answers).toEqual(await oneByOne(t, all));
    expect(t.errors).toEqual([]);
  });

  it('cannot be forked for answers to different prompts, or from pages that hold nothing yet', async () => {
    await using t = await startEngine('tiny-moe');
    const [one, two] = [...choices([1, 2, 3], 1), ...choices([1, 2, 3], 1)] as [Generation, Generation];
    using pages = await t.engine.reserve(t.engine.room(one, two), never);
    await expect(t.engine.fork(pages, [one, two])).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(t.engine.fork(pages, choices([1, 2, 3], 2))).rejects.toMatchObject({ reason: 'not_committed' });
    await expect(t.engine.prefillChoices([], pages, never)).rejects.toMatchObject({ code: 'invalid_argument' });
  });
});
