import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadEngine } from './load-engine.ts';
import { warmUp } from './warm-up.ts';

const TINY_MOE = fileURLToPath(new URL('../../../models/tiny-moe', import.meta.url));

test('warming up decodes, prefills nothing, and leaves the guess of how long answers get as it was', async () => {
  await using loaded = await loadEngine({
    modelPath: TINY_MOE,
    chip: 'cpu',
    threads: 1,
    precision: 'fast',
    kvBudgetBytes: 64 << 20,
    maxContext: 512,
    maxSequences: 2,
    chunkTokens: 128,
  });
  const { engine, pool, maxContext } = loaded;
  const { signal } = new AbortController();
  const wanted = {
    promptIds: new Uint32Array(10),
    replayIds: new Uint32Array(0),
    maxTokens: 400,
    stopTokenIds: [],
    ignoreEos: true,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
  };
  const room = engine.room(wanted);
  // Eight answers that ended would count.
  for (let i = 0; i < 5; i++) await warmUp(engine, 'decode', maxContext, signal);
  expect(engine.room(wanted)).toBe(room);
  const { decodedTokens, prefillTokens, running, waiting } = engine.stats();
  expect(decodedTokens).toBeGreaterThanOrEqual(5 * 2 * 8);
  expect([prefillTokens, running, waiting]).toEqual([0, 0, 0]);
  await expect.poll(() => pool.freePages).toBe(pool.totalPages);

  await warmUp(engine, 'prefill', maxContext, signal);
  expect(engine.stats().prefillTokens).toBe(8 + 2 * 64);
  await expect.poll(() => pool.freePages).toBe(pool.totalPages);
});
