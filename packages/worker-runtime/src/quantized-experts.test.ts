/** Experts of GGUF and packed safetensors files elsewhere: every type of weights that experts may have, in both precisions. Real Redis, real shards, real gRPC. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  isSafetensorsType,
  RANDOM_MODEL_TYPES,
  type RandomModelType,
  type RedisServer,
  startRedis,
  writeRandomModel,
} from '@causeway/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { localEngine, logitsOf, startExperts } from './testing/expert-cluster.ts';

const EXPERTS = 8;
/** The first shard has five experts, the second three, and one of the first's too. */
const SPLIT = [
  [0, 2, 3, 5, 7],
  [0, 1, 4, 6],
];
const IDS = Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % 500);

let redis: RedisServer;
let folder: string;
beforeAll(async () => {
  redis = await startRedis();
  folder = mkdtempSync(join(tmpdir(), 'causeway-quantized-'));
});
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function model(type: RandomModelType): string {
  const out = join(folder, type);
  writeRandomModel({
    out,
    type,
    hidden: 256,
    layers: 2,
    inner: 512,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    vocab: 512,
    context: 512,
    tied: false,
    moe: { experts: EXPERTS, expertsPerToken: 2, inner: 256 },
  });
  return isSafetensorsType(type) ? out : join(out, 'random.gguf');
}

/** The largest difference of two logits, by the size of the largest. */
function difference(a: Float32Array, b: Float32Array): number {
  let [largest, size] = [0, 0];
  for (const [i, value] of a.entries()) {
    largest = Math.max(largest, Math.abs(value - (b[i] ?? Number.NaN)));
    size = Math.max(size, Math.abs(value));
  }
  return Number.isNaN(largest) ? Number.POSITIVE_INFINITY : largest / size;
}

const sameBits = (a: Float32Array, b: Float32Array): boolean =>
  Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer)) === 0;

const CASES = [
  ...RANDOM_MODEL_TYPES.map((type) => [type, 'exact'] as const),
  ['Q4_0', 'fast'] as const,
  ['INT4_G32', 'fast'] as const,
  ['Q8_0', 'fast'] as const,
];

it.each(CASES)(
  'experts of %s elsewhere, precision %s: one by one the bits of in-process, and their sums within rounding',
  async (type, precision) => {
    const path = model(type);
    await using local = await localEngine(path, precision);
    const whole = await logitsOf(local, IDS);
    expect(new Set(whole).size).toBeGreaterThan(1000);
    {
      await using pairs = await startExperts({ redis, folder: path, split: SPLIT, precision, engine: { expertMode: 'exact' } });
      expect(sameBits(await logitsOf(pairs.loaded, IDS), whole)).toBe(true);
      // Few rows, so that most experts have one or none.
      expect(sameBits(await logitsOf(pairs.loaded, IDS, 4), await logitsOf(local, IDS, 4))).toBe(true);
    }
    await using sums = await startExperts({ redis, folder: path, split: SPLIT, precision });
    expect(difference(await logitsOf(sums.loaded, IDS), whole)).toBeLessThan(precision === 'exact' ? 1e-4 : 2e-2);
    expect(sums.nodes.every(({ shard }) => shard.stats.pairs > 0)).toBe(true);
  },
);
