import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  balancedSplit,
  balancedThreshold,
  decodeThroughput,
  farThroughput,
  nearPrefillThroughput,
  splitAt,
  type ThroughputInputs,
  totalThroughput,
} from './throughput-model.ts';

const inputs: ThroughputInputs = {
  farInstances: 4,
  farPrefillSeconds: (tokens) => tokens / 20_000,
  farEgressBytesPerSecond: 1e9,
  kvBytes: (tokens) => tokens * 50_000,
  prefillInstances: 2,
  prefillSeconds: (tokens) => tokens / 5_000,
  decodeInstances: 6,
  decodeBatch: 32,
  decodeStepSeconds: 0.03,
  answerTokens: 200,
};

describe('the throughput model', () => {
  it('has the terms of the paper', () => {
    // 4 / (10,000 / 20,000) = 8 prompts/s by compute, 1e9 / (10,000 x 50,000) = 2 by bandwidth.
    expect(farThroughput(inputs, 10_000)).toBeCloseTo(2);
    expect(farThroughput({ ...inputs, farEgressBytesPerSecond: 1e10 }, 10_000)).toBeCloseTo(8);
    expect(nearPrefillThroughput(inputs, 1_000)).toBeCloseTo(10);
    expect(decodeThroughput(inputs)).toBeCloseTo(32);
  });

  it('is bound by its weakest part', () => {
    const split = splitAt([1_000, 1_000, 1_000, 10_000], 5_000);
    expect(split).toEqual({ longShare: 0.25, longTokens: 10_000, shortTokens: 1_000 });
    // far 2 / 0.25 = 8, near 10 / 0.75 = 13.3, decode 32
    expect(totalThroughput(inputs, split)).toBeCloseTo(8);
    expect(totalThroughput({ ...inputs, decodeInstances: 1 }, split)).toBeCloseTo(5.333, 2);
    expect(totalThroughput(inputs, splitAt([1_000], 5_000))).toBeCloseTo(10);
  });

  it('finds the threshold and the split that no other beats', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 50_000 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(lengths, fc.integer({ min: 0, max: 50_000 }), (sample, other) => {
        const wide = { ...inputs, decodeInstances: 1e9 };
        const threshold = balancedThreshold(wide, sample);
        expect(totalThroughput(wide, splitAt(sample, threshold))).toBeGreaterThanOrEqual(
          totalThroughput(wide, splitAt(sample, other)),
        );
      }),
    );
    const split = splitAt([1_000, 10_000], 5_000);
    const { prefill, decode } = balancedSplit(inputs, split, 8);
    expect(prefill + decode).toBe(8);
    const reached = (p: number): number => {
      const tried = { ...inputs, prefillInstances: p, decodeInstances: 8 - p };
      return Math.min(farThroughput(tried, 10_000) + nearPrefillThroughput(tried, 1_000), decodeThroughput(tried));
    };
    for (let p = 1; p < 8; p++) expect(reached(prefill)).toBeGreaterThanOrEqual(reached(p));
  });
});
