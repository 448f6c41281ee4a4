import { expect, test } from 'vitest';
import { type LoadRequest, requests } from './requests.ts';

function take(seed: number, rate: number, count: number): LoadRequest[] {
  const all = requests({ seed, rate });
  return Array.from({ length: count }, () => all.next().value);
}

test('the same seed asks the same, another asks something else', () => {
  expect(take(7, 2, 50)).toEqual(take(7, 2, 50));
  expect(take(8, 2, 50)).not.toEqual(take(7, 2, 50));
  expect(take(0, 2, 5)).toHaveLength(5);
});

test.each([0.5, 4, 100])('at %d requests a second gaps are 1/rate on average, and exponential', (rate) => {
  const gaps = take(3, rate, 20_000).map(({ afterMs }) => afterMs);
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  expect(mean).toBeGreaterThan((1000 / rate) * 0.95);
  expect(mean).toBeLessThan((1000 / rate) * 1.05);
  // Of an exponential distribution 1 - 1/e lies below the mean.
  const below = gaps.filter((gap) => gap < mean).length / gaps.length;
  expect(Math.abs(below - (1 - 1 / Math.E))).toBeLessThan(0.02);
});
