import { openCheckpoint } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from './load-model.ts';
import { argmax, greedyRows, largestDifference, logSoftmax, teacherForcedRows } from './testing/logits.ts';
import { readGreedyCases, readTop5, sharedFolder, TINY_MOE } from './testing/references.ts';
import { SegmentRunner } from './testing/segment-runner.ts';
import type { Precision } from './types.ts';

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 2 });
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

interface Agreement {
  /** Cases whose answer differs before the first position with a margin under `firm`. */
  wrongCases: number[];
  /** Largest difference of a log-probability from the reference's five best. */
  largestError: number;
}

/** Continues every case of a golden.json along the reference's own tokens. */
async function compare(folder: string, precision: Precision, firm: number, rowsOf: typeof greedyRows): Promise<Agreement> {
  using checkpoint = await openCheckpoint(folder);
  await using runner = await SegmentRunner.create(runtime, await loadModel({ checkpoint, precision, runtime }), {
    batch: 1,
    capacity: 1024,
  });
  const top5 = readTop5(folder);
  const agreement: Agreement = { wrongCases: [], largestError: 0 };
  for (const [i, { prompt, greedy, margins }] of readGreedyCases(folder).entries()) {
    const rows = await rowsOf(runner, prompt, greedy);
    const unsure = margins.findIndex((margin) => margin < firm);
    const checked = greedy.slice(0, unsure === -1 ? greedy.length : unsure);
    if (checked.some((id, at) => argmax(rows[at] ?? new Float32Array()) !== id)) agreement.wrongCases.push(i);
    for (const [at, row] of rows.entries()) {
      const found = logSoftmax(row);
      for (const [id, wanted] of top5[i]?.[at] ?? []) {
        const error = Math.abs((found[id] ?? Number.NaN) - wanted);
        if (!(error <= agreement.largestError)) agreement.largestError = error;
      }
    }
  }
  return agreement;
}

describe('tiny-moe', () => {
  it('answers as the reference does, to the rounding of its printed numbers', async () => {
    const { wrongCases, largestError } = await compare(TINY_MOE, 'exact', 0.001, greedyRows);
    expect(wrongCases).toEqual([]);
    expect(largestError).toBeLessThan(5e-4);
  });
});

const smollm2 = sharedFolder('models/smollm2-135m-instruct');
describe.skipIf(smollm2.absent)('SmolLM2 (GGUF Q4_1)', () => {
  it('exact: answers as the reference on the dequantised weights', async () => {
    const { wrongCases, largestError } = await compare(smollm2.path, 'exact', 0.02, teacherForcedRows);
    expect(wrongCases).toEqual([]);
    expect(largestError).toBeLessThan(5e-4);
  });

  it('fast: answers as the reference where its margin is firm', async () => {
    const { wrongCases, largestError } = await compare(smollm2.path, 'fast', 0.3, teacherForcedRows);
    expect(wrongCases).toEqual([]);
    expect(largestError).toBeLessThan(1.5);
  });

  it.each<Precision>(['exact', 'fast'])('%s: decodes a ragged batch with the bits of each sequence alone', async (precision) => {
    using checkpoint = await openCheckpoint(smollm2.path);
    const model = await loadModel({ checkpoint, precision, runtime });
    await using runner = await SegmentRunner.create(runtime, model, { batch: 4, capacity: 256 });
    const ids = (readGreedyCases(smollm2.path)[5]?.prompt ?? []).slice(0, 130);
    const lengths = [5, 97, 40];
    for (const [slot, length] of lengths.entries()) await runner.run({ ids: [ids.slice(0, length)], past: [0], firstSlot: slot });
    const together = await runner.run({ ids: lengths.map((at) => [ids[at] ?? 0]), past: lengths });
    const vocabulary = together.length / lengths.length;
    for (const [slot, length] of lengths.entries()) {
      for (const chunks of [[length], [3, length - 3]]) {
        let past = 0;
        for (const chunk of chunks) {
          await runner.run({ ids: [ids.slice(past, past + chunk)], past: [past], firstSlot: 3, logitRows: [] });
          past += chunk;
        }
        const alone = await runner.run({ ids: [[ids[length] ?? 0]], past: [length], firstSlot: 3 });
        expect(largestDifference(together.subarray(slot * vocabulary, (slot + 1) * vocabulary), alone)).toBe(0);
      }
    }
  });

  it('gives the same bits in one segment and in thirty', async () => {
    const ids = readGreedyCases(smollm2.path)[0]?.prompt ?? [];
    const results: Float32Array[] = [];
    for (const cuts of [[], Array.from({ length: 29 }, (_, i) => i + 1)]) {
      using checkpoint = await openCheckpoint(smollm2.path);
      const model = await loadModel({ checkpoint, precision: 'fast', cuts, runtime });
      expect(model.segments).toHaveLength(cuts.length + 1);
      await using runner = await SegmentRunner.create(runtime, model, { batch: 1, capacity: 128 });
      results.push(await runner.run({ ids: [ids], past: [0] }), await runner.run({ ids: [[5]], past: [ids.length] }));
    }
    const [prefill, step, cutPrefill, cutStep] = results as [Float32Array, Float32Array, Float32Array, Float32Array];
    expect([largestDifference(cutPrefill, prefill), largestDifference(cutStep, step)]).toEqual([0, 0]);
  });
});
