import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expNonPositive } from './exponential.ts';

describe('expNonPositive', () => {
  it('is exact at 0, 0 far below, NaN for NaN', () => {
    expect(expNonPositive(0)).toBe(1);
    expect(expNonPositive(-44.1)).toBe(0);
    expect(expNonPositive(Number.NEGATIVE_INFINITY)).toBe(0);
    expect(expNonPositive(Number.NaN)).toBeNaN();
  });

  it('agrees with Math.exp to a relative 1e-15', () => {
    fc.assert(
      fc.property(fc.double({ min: -44, max: 0, noNaN: true }), (x) => {
        expect(Math.abs(expNonPositive(x) / Math.exp(x) - 1)).toBeLessThan(1e-15);
      }),
      { numRuns: 20_000 },
    );
  });

  it('never falls as x grows over steps of the table', () => {
    for (let i = -2000; i < 0; i++) {
      const x = (i * Math.LN2) / 64;
      expect(expNonPositive(x)).toBeGreaterThan(expNonPositive(x - 1e-9));
      expect(expNonPositive(x + 1e-9)).toBeGreaterThan(expNonPositive(x));
    }
  });
});
