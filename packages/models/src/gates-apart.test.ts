import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { expect, it } from 'vitest';
import { loadModel } from './load-model.ts';
import { largestDifference, prefill } from './testing/logits.ts';
import { SegmentRunner } from './testing/segment-runner.ts';

const FOLDER = fileURLToPath(new URL('../../../models/tiny-moe', import.meta.url));
const IDS = [5, 6, 7, 8, 9, 10, 11];

it('routers in segments of their own choose alike: the same bits of every logit', async () => {
  await using runtime = Runtime.create({ threads: 2 });
  const logits = async (gatesApart: boolean): Promise<{ all: Float32Array; names: string[] }> => {
    const model = await loadModel({ checkpoint: await openCheckpoint(FOLDER), precision: 'exact', gatesApart });
    const names = model.segments.map(({ name }) => name);
    await using runner = await SegmentRunner.create(runtime, model, { batch: 1, capacity: 32 });
    return { all: await prefill(runner, IDS, [4, 2, 1]), names };
  };
  const whole = await logits(false);
  const apart = await logits(true);
  expect(whole.names.filter((name) => name.startsWith('gate.'))).toEqual([]);
  expect(apart.names.filter((name) => name.startsWith('gate.'))).toEqual(['gate.1', 'gate.2', 'gate.3', 'gate.4']);
  expect(new Set(whole.all).size).toBeGreaterThan(100);
  expect(largestDifference(apart.all, whole.all)).toBe(0);
});
