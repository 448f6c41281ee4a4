import { describe, expect, it } from 'vitest';
import { compareGreedy, largestError, logSoftmaxAt } from './compare.ts';

describe('comparing with a reference', () => {
  it('takes NaN and a wrong length as an infinite error', () => {
    expect(largestError([1, 2.5], [1, 2])).toBe(0.5);
    expect(largestError([1, Number.NaN], [1, 2])).toBe(Number.POSITIVE_INFINITY);
    expect(largestError([1], [1, 2])).toBe(Number.POSITIVE_INFINITY);
  });
  it('normalises log-probabilities', () => {
    const [a, b] = logSoftmaxAt(Float32Array.of(0, Math.log(3)), [0, 1]);
    expect(Math.exp(a as number)).toBeCloseTo(0.25, 6);
    expect(Math.exp(b as number)).toBeCloseTo(0.75, 6);
  });
  it('requires equality only up to the first near-tie', () => {
    expect(compareGreedy([1, 2, 9, 9], [1, 2, 3, 4], [5, 5, 0.001, 5], 0.02)).toEqual({
      agreed: 2,
      required: 2,
      total: 4,
      ok: true,
    });
    expect(compareGreedy([1, 9], [1, 2], [5, 5], 0.02).ok).toBe(false);
    expect(compareGreedy([1], [1, 2], [5, 5], 0.02).ok).toBe(false);
  });
});
