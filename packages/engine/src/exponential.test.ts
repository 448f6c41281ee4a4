import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exponentials } from './exponential.ts';

/** exp of one f32 number that is not positive. */
function exp(x: number, temperature = 1): number {
  const out = new Float64Array(1);
  expect(exponentials(Float32Array.of(x), 0, temperature, out)).toEqual(out[0]);
  return out[0] as number;
}

describe('exponentials', () => {
  it('is exact at 0, 0 far below, NaN for NaN', () => {
    expect(exp(0)).toBe(1);
    expect(exp(-44.1)).toBe(0);
    expect(exp(Number.NEGATIVE_INFINITY)).toBe(0);
    expect(exp(Number.NaN)).toBeNaN();
  });

  it('agrees with Math.exp to a relative 1e-15', () => {
    fc.assert(
      fc.property(fc.float({ min: -44, max: 0, noNaN: true }), (x) => {
        expect(Math.abs(exp(x) / Math.exp(x) - 1)).toBeLessThan(1e-15);
      }),
      { numRuns: 20_000 },
    );
  });

  it('divides by the temperature and adds up in index order', () => {
    const values = Float32Array.of(1, 3, -2);
    const out = new Float64Array(3);
    const sum = exponentials(values, 3, 2, out);
    expect([...out].map((x) => x.toFixed(12))).toEqual([-1, 0, -2.5].map((x) => Math.exp(x).toFixed(12)));
    expect(sum).toBe((out[0] as number) + (out[1] as number) + (out[2] as number));
  });

  it('never falls as x grows over steps of the table', () => {
    for (let i = -2000; i < 0; i++) {
      const x = Math.fround((i * Math.LN2) / 64);
      const step = 1e-5;
      expect(exp(x)).toBeGreaterThan(exp(x - step));
      expect(exp(x + step)).toBeGreaterThan(exp(x));
    }
  });
});
