import { expect, test } from 'vitest';
import { RunTimes } from './run-times.ts';

test('a run is short once runs of about its size were, whatever others are', () => {
  const times = new RunTimes();
  expect(times.short(4)).toBe(false);
  times.add(4, 0.3);
  expect([times.short(4), times.short(7), times.short(8), times.short(3)]).toEqual([true, true, false, false]);
  times.add(100, 30);
  expect([times.short(4), times.short(100)]).toEqual([true, false]);
});

test('one run that was held up changes nothing, several do, and it goes back', () => {
  const times = new RunTimes();
  times.add(4, 0.3);
  times.add(4, 500);
  expect(times.short(4)).toBe(true);
  for (let i = 0; i < 10; i++) times.add(4, 3);
  expect(times.short(4)).toBe(false);
  for (let i = 0; i < 20; i++) times.add(4, 0.3);
  expect(times.short(4)).toBe(true);
});
