import { expect, test } from 'vitest';
import { HedgeBudget, LatencyTrack } from './latency.ts';

test('one answer that was held up hardly moves the mean; a shard that stays slow does, and is tried again after a while', () => {
  let now = 0;
  const track = new LatencyTrack(() => now);
  for (let i = 0; i < 50; i++) track.add(16, 2);
  track.add(16, 200);
  expect(track.mean).toBeCloseTo(2 + 0.2 * (8 - 2));
  for (let i = 0; i < 20; i++) track.add(16, 200);
  expect(track.mean).toBeGreaterThan(100);
  const slow = track.mean;
  now += 1000;
  expect(track.mean).toBeCloseTo(slow / 2);
  now += 7000;
  expect(track.mean).toBeLessThan(2);
});

test('the first answer of a slow shard is believed', () => {
  const track = new LatencyTrack(() => 0);
  track.add(16, 200);
  expect(track.mean).toBe(200);
});

test('the 95th percentile is that of the last answers of the size, once there are enough', () => {
  const track = new LatencyTrack(() => 0);
  for (let i = 1; i < 20; i++) track.add(16, i);
  expect(track.p95(16)).toBeUndefined();
  track.add(16, 20);
  expect(track.p95(16)).toBe(20);
  expect(track.p95(4096)).toBeUndefined();
  // 128 are kept: the old ones go.
  for (let i = 0; i < 128 + 8; i++) track.add(16, 1);
  expect(track.p95(16)).toBe(1);
});

test('what is a little late leaves the budget a part for what is very late', () => {
  const budget = new HedgeBudget(0.05, 4, 2);
  expect(budget.spend('late')).toBe(true);
  expect(budget.spend('late')).toBe(true);
  expect(budget.spend('late')).toBe(false);
  expect(budget.spend('very late')).toBe(true);
  expect(budget.spend('very late')).toBe(true);
  expect(budget.spend('very late')).toBe(false);
  // One frame in twenty may be sent twice; the kept part fills first.
  for (let i = 0; i < 21; i++) budget.earn();
  expect(budget.spend('late')).toBe(false);
  expect(budget.spend('very late')).toBe(true);
  for (let i = 0; i < 1000; i++) budget.earn();
  expect(['late', 'late', 'late'].map(() => budget.spend('late'))).toEqual([true, true, false]);
});
