import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ExpertSeries } from './expert-series.ts';

test('no series ever falls, all tokens are counted once, and there are few series', () => {
  const experts = 40;
  const growth = fc.array(fc.tuple(fc.nat(experts - 1), fc.integer({ min: 1, max: 1000 })), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(fc.array(growth, { minLength: 1, maxLength: 12 }), (rounds) => {
      const series = new ExpertSeries(experts);
      const totals = new Float64Array(experts);
      const counted = new Map<string, number>();
      for (const round of rounds) {
        for (const [expert, by] of round) totals[expert] = (totals[expert] ?? 0) + by;
        series.raise(totals, (expert, by) => {
          expect(by).toBeGreaterThanOrEqual(0);
          counted.set(expert, (counted.get(expert) ?? 0) + by);
        });
        const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);
        expect(sum(counted.values())).toBe(sum(totals));
      }
      expect(counted.size).toBeLessThanOrEqual(17);
    }),
  );
});

test('the most used experts have their own, from when they became it', () => {
  const series = new ExpertSeries(10);
  const totals = Float64Array.from({ length: 10 }, (_, expert) => 100 - expert);
  const counted: Record<string, number> = {};
  const inc = (expert: string, by: number): void => void (counted[expert] = (counted[expert] ?? 0) + by);
  series.raise(totals, inc);
  expect(counted).toEqual({ 0: 100, 1: 99, 2: 98, 3: 97, 4: 96, 5: 95, 6: 94, 7: 93, rest: 92 + 91 });
  totals[9] = 1000;
  series.raise(totals, inc);
  expect(counted).toMatchObject({ 9: 909, rest: 92 + 91, 7: 93 });
});
