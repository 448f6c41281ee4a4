import { expect, test } from 'vitest';
import { assignExperts, type Candidate } from './assign.ts';
import type { ExpertTokens } from './routed-tokens.ts';

interface Shard extends Candidate {
  id: string;
}

const shard = (id: string, pressure: number): Shard => ({ id, pressure });
const asked = (expert: number, tokens: number): ExpertTokens => ({
  expert,
  tokens: Array.from({ length: tokens }, (_, i) => i),
  weights: [],
  slots: [],
});

/** Pairs by shard. */
function pairs(byLink: ReadonlyMap<Shard, readonly ExpertTokens[]>): Record<string, number> {
  return Object.fromEntries([...byLink].map(([{ id }, own]) => [id, own.reduce((sum, { tokens }) => sum + tokens.length, 0)]));
}

test('copies share what one layer asks at once, the largest first, and each is told its experts in order', () => {
  const [a, b] = [shard('a', 1), shard('b', 1.5)];
  const experts = [asked(0, 5), asked(1, 40), asked(2, 30), asked(3, 10), asked(4, 5)];
  for (const random of [() => 0, () => 0.999, Math.random]) {
    const { byLink, homeless } = assignExperts(experts, () => [a, b], random);
    expect(homeless).toEqual([]);
    expect(pairs(byLink)).toEqual({ a: 45, b: 45 });
    for (const own of byLink.values())
      expect(own.map(({ expert }) => expert)).toEqual(own.map(({ expert }) => expert).sort((x, y) => x - y));
  }
});

test('a shard twice as busy as the other is not asked', () => {
  const { byLink } = assignExperts([asked(0, 9), asked(1, 9)], () => [shard('a', 2.1), shard('b', 1)], Math.random);
  expect([...byLink.keys()].every(({ id }) => id === 'b')).toBe(true);
});

test('an expert with one home goes there, one without is told', () => {
  const only = shard('a', 100);
  const { byLink, homeless } = assignExperts(
    [asked(3, 1), asked(1, 2)],
    ({ expert }) => (expert === 3 ? [only] : []),
    Math.random,
  );
  expect(byLink.get(only)?.map(({ expert }) => expert)).toEqual([3]);
  expect(homeless.map(({ expert }) => expert)).toEqual([1]);
});
