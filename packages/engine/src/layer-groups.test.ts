/** Prefill that stores and hands over the KV of early layers while later ones are still to be computed. */
import { type LayerRange, PageLayout } from '@causeway/kv';
import { describe, expect, it, vi } from 'vitest';
import {
  absent,
  bits,
  generate,
  generation,
  type ModelName,
  never,
  numbers,
  randomIds,
  startEngine,
  type TestEngine,
} from './testing/start-engine.ts';

/** A prompt that ends inside a block, in chunks that end inside blocks. */
const ids = randomIds(numbers(31), 150, 257);
const CHUNK = 37;

/** Bytes of tokens [0, tokenCount) of some layers in the pages. */
function bytesOf(t: TestEngine, pages: readonly number[], layers: LayerRange, tokenCount: number): Buffer {
  const runs = new PageLayout(t.pool.descriptor).segments({ kind: 'tokens', ...layers, firstToken: 0, tokenCount });
  return Buffer.concat(
    runs.map(({ page, offset, length }) => t.pool.bytes(pages[page] as number).subarray(offset, offset + length)),
  );
}

describe.each(['llama', 'deepseek_v3', 'tiny-moe'] as const satisfies ModelName[])('%s in groups of layers', (name) => {
  for (const dtype of ['f32', 'bf16'] as const) {
    it.skipIf(absent(name))(`has the bits of one group (${dtype})`, async () => {
      await using whole = await startEngine(name, { dtype, chunkTokens: CHUNK });
      const request = generation(ids, { maxTokens: 12 });
      const expected = bits(await generate(whole.engine, request));
      for (const layerGroups of [2, whole.engine.info.descriptor.layers.length]) {
        await using t = await startEngine(name, { dtype, chunkTokens: CHUNK, layerGroups });
        expect(bits(await generate(t.engine, request)), `${layerGroups} groups`).toBe(expected);
        expect(t.errors).toEqual([]);
      }
    });
  }
});

describe('groups of layers', () => {
  /** tiny-moe has five layers. */
  const groups = [
    { firstLayer: 0, layerCount: 1 },
    { firstLayer: 1, layerCount: 2 },
    { firstLayer: 3, layerCount: 2 },
  ];

  it('are in the pages, finished, when they are handed over, and later layers are not yet', async () => {
    await using t = await startEngine('tiny-moe', { chunkTokens: CHUNK, layerGroups: 3 });
    using pages = await t.engine.reserve(ids.length, never);
    for (const page of pages.pages) t.pool.bytes(page).fill(0xee);
    let untouched = 0;
    const handed: { end: number; layers: LayerRange; bytes: Buffer }[] = [];
    /** Whole blocks are packed: what lies past the last token of the block before a chunk is rubbish. */
    let blockEnd = 0;
    await t.engine.prefill(generation(ids), pages, never, (end, layers) => {
      const later = { firstLayer: layers.firstLayer + layers.layerCount, layerCount: 1 };
      if (later.firstLayer === 5) blockEnd = Math.ceil(end / 16) * 16;
      else if (blockEnd < end) {
        const bytes = bytesOf(t, pages.pages, later, end);
        const row = bytes.length / end;
        expect(bytes.subarray(blockEnd * row).every((byte) => byte === 0xee)).toBe(true);
        untouched++;
      }
      handed.push({ end, layers, bytes: bytesOf(t, pages.pages, layers, end) });
    });
    // The last chunk ends in the block that the one before began.
    expect(untouched).toBe(8);
    const ends = [37, 74, 111, 148, 150];
    expect(handed.map(({ end, layers }) => ({ end, layers }))).toEqual(
      ends.flatMap((end) => groups.map((layers) => ({ end, layers }))),
    );
    for (const { end, layers, bytes } of handed) {
      expect(bytesOf(t, pages.pages, layers, end).equals(bytes), `layer ${layers.firstLayer} up to ${end}`).toBe(true);
    }
    expect(t.errors).toEqual([]);
  });

  it('wait for whom they are handed to: nothing later runs meanwhile', async () => {
    await using t = await startEngine('tiny-moe', { chunkTokens: 64, layerGroups: 3 });
    using pages = await t.engine.reserve(60, never);
    const gate = Promise.withResolvers<void>();
    const seen: number[] = [];
    const reading = t.engine.prefill(generation(ids.slice(0, 60)), pages, never, (_, { firstLayer }) => {
      seen.push(firstLayer);
      return firstLayer === 0 ? gate.promise : undefined;
    });
    await vi.waitFor(() => expect(seen).toEqual([0]));
    expect(t.engine.stats().prefillTokens).toBe(0);
    gate.resolve();
    await reading;
    expect(seen).toEqual([0, 1, 3]);
    expect(t.engine.stats().prefillTokens).toBe(60);
  });

  it('end with a cancelled prompt: no later group, pages back', async () => {
    await using t = await startEngine('tiny-moe', { chunkTokens: 64, layerGroups: 3 });
    const controller = new AbortController();
    const pages = await t.engine.reserve(ids.length, never);
    const seen: string[] = [];
    const reading = t.engine.prefill(generation(ids), pages, controller.signal, (end, { firstLayer }) => {
      seen.push(`${end}/${firstLayer}`);
      if (end === 128 && firstLayer === 1) controller.abort();
    });
    await expect(reading).rejects.toMatchObject({ code: 'cancelled' });
    pages[Symbol.dispose]();
    await generate(t.engine, generation(ids.slice(0, 30), { maxTokens: 4 }));
    expect(seen).toEqual(['64/0', '64/1', '64/3', '128/0', '128/1']);
    expect(t.pool.freePages).toBe(t.pool.totalPages);
    expect(t.errors).toEqual([]);
  });

  it('fail with whom they are handed to, and only that prompt does', async () => {
    await using t = await startEngine('tiny-moe', { layerGroups: 2 });
    using pages = await t.engine.reserve(ids.length, never);
    const reading = t.engine.prefill(generation(ids), pages, never, async () => {
      throw new Error('gone');
    });
    await expect(reading).rejects.toMatchObject({ cause: { message: 'gone' } });
    expect((await generate(t.engine, generation(ids, { maxTokens: 3 }))).length).toBe(3);
  });

  it('change no token of a pool that is too small for all, which preempts', async () => {
    const requests = Array.from({ length: 6 }, (_, i) => generation(ids.slice(0, 20 + i * 13), { maxTokens: 50 + i * 8 }));
    await using roomy = await startEngine('tiny-moe');
    await using tight = await startEngine('tiny-moe', { pageCount: 18, initialGrowth: 4, layerGroups: 3 });
    const expected = await Promise.all(requests.map((g) => generate(roomy.engine, g)));
    const answers = await Promise.all(requests.map((g) => generate(tight.engine, { ...g, exactResume: true })));
    expect(tight.engine.stats().preemptions).toBeGreaterThan(0);
    expect(answers.map(bits)).toEqual(expected.map(bits));
    expect(tight.pool.freePages).toBe(18);
    expect(tight.errors).toEqual([]);
  });

  it('cannot be more than layers', async () => {
    await expect(startEngine('tiny-moe', { layerGroups: 6 })).rejects.toMatchObject({
      reason: 'bad_config',
      message: "5 layers can't be cut into 6 groups: choose 1 to 5",
    });
  });
});
