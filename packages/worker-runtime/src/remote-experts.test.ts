import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type RedisServer, startRedis } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedEngine } from './load-engine.ts';
import { absent, localEngine, logitsOf, modelFolder, type Split, startExperts } from './testing/expert-cluster.ts';

const TOLERANCE = 2e-3;

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

/** All experts over `shards`: the first has far more than the last, and the last some of the first's too. */
function unevenSplit(experts: number, shards: number): Split {
  const weights = Array.from({ length: shards }, (_, shard) => 2 ** (shards - shard));
  const total = weights.reduce((a, b) => a + b, 0);
  let from = 0;
  const split = weights.map((weight, shard) => {
    const left = shards - shard - 1;
    const share = Math.max(1, Math.round((experts * weight) / total));
    const count = shard === shards - 1 ? experts - from : Math.min(share, experts - from - left);
    const own = Array.from({ length: count }, (_, i) => from + i);
    from += count;
    return own;
  });
  return shards === 1 ? split : [...split.slice(0, -1), [...new Set([0, 1, ...(split.at(-1) ?? [])])]];
}

const MODELS = [
  { name: 'deepseek_v3', experts: 8 },
  { name: 'kimi_k2', experts: 12 },
  { name: 'qwen3_moe', experts: 8 },
  { name: 'tiny-moe', experts: 16 },
];

function expectedLogits(name: string): { ids: number[]; logits: Float32Array } | undefined {
  try {
    const file = readFileSync(join(modelFolder(name), 'golden.safetensors'));
    const headerBytes = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<string, { data_offsets: [number, number] }>;
    const data = (key: string): ArrayBuffer => {
      const [start, end] = header[key]?.data_offsets ?? [0, 0];
      return new Uint8Array(file.subarray(8 + headerBytes + start, 8 + headerBytes + end)).buffer;
    };
    return { ids: [...new BigInt64Array(data('ids'))].map(Number), logits: new Float32Array(data('logits')) };
  } catch {
    return undefined;
  }
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs((a[i] ?? 0) - (b[i] ?? 0)));
  return Number.isNaN(largest) ? Number.POSITIVE_INFINITY : largest;
}

for (const { name, experts } of MODELS) {
  describe.skipIf(absent(name))(`experts of ${name} elsewhere`, () => {
    let local: LoadedEngine;
    let ids: number[];
    let whole: Float32Array;
    beforeAll(async () => {
      local = await localEngine(modelFolder(name));
      ids = expectedLogits(name)?.ids.slice(0, 130) ?? Array.from({ length: 130 }, (_, i) => (i * 37 + 5) % 2000);
      whole = await logitsOf(local, ids);
    });
    afterAll(async () => {
      await local?.[Symbol.asyncDispose]();
    });

    it.each([1, 2, 3, 5])(
      '%i shards: exact mode has the bits of in-process, default mode is within tolerance',
      async (shards) => {
        const split = unevenSplit(experts, shards);
        const { vocabSize } = local.info;
        const golden = expectedLogits(name)?.logits.subarray(0, ids.length * vocabSize);
        {
          await using exact = await startExperts({ redis, folder: modelFolder(name), split, engine: { expertMode: 'exact' } });
          expect(exact.loaded.weightBytes).toBeLessThan(local.weightBytes);
          expect(largestDifference(await logitsOf(exact.loaded, ids), whole)).toBe(0);
          // Other bits would come of a batch that isn't the same row by row.
          expect(largestDifference(await logitsOf(exact.loaded, ids, 7), whole)).toBe(0);
        }
        await using sums = await startExperts({ redis, folder: modelFolder(name), split });
        const found = await logitsOf(sums.loaded, ids);
        expect(largestDifference(found, whole)).toBeLessThan(TOLERANCE);
        if (golden !== undefined) expect(largestDifference(found, golden)).toBeLessThan(TOLERANCE);
        const pairs = sums.nodes.reduce((sum, { shard }) => sum + shard.stats.pairs, 0);
        expect(pairs).toBe(ids.length * sums.nodes[0]!.shape.layers.length * sums.nodes[0]!.shape.expertsPerToken);
      },
    );
  });
}

describe('experts elsewhere', () => {
  it('keep exact bits over a live change of placement, and old experts go when nobody uses them', async () => {
    const folder = modelFolder('tiny-moe');
    await using local = await localEngine(folder);
    const ids = Array.from({ length: 60 }, (_, i) => (i * 31 + 3) % 2000);
    const whole = await logitsOf(local, ids);
    const even = Array.from({ length: 8 }, (_, i) => 2 * i);
    const odd = Array.from({ length: 8 }, (_, i) => 2 * i + 1);
    await using cluster = await startExperts({ redis, folder, split: [even, odd], engine: { expertMode: 'exact' } });
    let done = false;
    const running = (async () => {
      let rounds = 0;
      for (; !done || rounds < 3; rounds++) expect(largestDifference(await logitsOf(cluster.loaded, ids), whole)).toBe(0);
      return rounds;
    })();
    await cluster.turn([odd, even]);
    await cluster.turn([[...even, 1], odd]);
    done = true;
    expect(await running).toBeGreaterThan(2);
    await expect.poll(() => cluster.nodes.map(({ held }) => held.experts), { timeout: 5000 }).toEqual([36, 32]);
  });

  it('with 16-bit rows is near, and says so by its numbers', async () => {
    const folder = modelFolder('tiny-moe');
    await using local = await localEngine(folder);
    const ids = Array.from({ length: 40 }, (_, i) => (i * 29 + 7) % 2000);
    const whole = await logitsOf(local, ids);
    const split = unevenSplit(16, 2);
    for (const [expertRows, most] of [
      ['f16', 0.05],
      ['bf16', 0.5],
    ] as const) {
      await using cluster = await startExperts({ redis, folder, split, engine: { expertRows } });
      const difference = largestDifference(await logitsOf(cluster.loaded, ids), whole);
      expect(difference).toBeGreaterThan(0);
      expect(difference).toBeLessThan(most);
    }
  });

  it('that are all gone fail a request naming layer and expert, at once when no shard is registered', async () => {
    await using cluster = await startExperts({ redis, folder: modelFolder('tiny-moe'), split: unevenSplit(16, 2) });
    for (const node of cluster.nodes) await node[Symbol.asyncDispose]();
    await expect(logitsOf(cluster.loaded, [5, 6, 7, 8])).rejects.toMatchObject({
      code: 'unavailable',
      reason: 'expert_unavailable',
      message: expect.stringMatching(/^expert \d+ of layer 1 is not available/),
    });
  });
});
