import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkPlacement, expertsOf, placementCopies } from './placement.ts';
import { planPlacement, shardLoads, type PlanOptions } from './plan.ts';

const shape = { layers: [1, 2], experts: 32, groups: 1 };
const shards = (count: number, capacity = 1000) => Array.from({ length: count }, (_, i) => ({ id: `s${i}`, capacity }));
const base: PlanOptions = {
  model: 'm',
  fingerprint: 'f',
  shape,
  shards: shards(4),
  loads: new Map(),
  minCopies: 1,
  hotCopies: 0,
};
const all = (count: number): Set<string> => new Set(shards(count).map(({ id }) => id));

/** The k-th most used of `experts` is used 1 / k as often as the first. */
const zipf = (experts: number, order: (rank: number) => number): number[] => {
  const loads = Array.from({ length: experts }, () => 0);
  for (let rank = 0; rank < experts; rank++) loads[order(rank)] = 10_000 / (rank + 1);
  return loads;
};

describe('planPlacement', () => {
  it('spreads experts evenly while nothing is known of their load', () => {
    const placement = planPlacement(base);
    checkPlacement(placement, shape, all(4));
    for (const { id } of base.shards) expect([...expertsOf(placement, id).values()].map((list) => list.length)).toEqual([8, 8]);
    expect(shardLoads(placement, base.loads).maxOverMean).toBe(1);
  });

  it('brings a Zipf load on 4 shards to within 1.25 of the mean, with copies of the hottest experts', () => {
    const loads = new Map(shape.layers.map((layer) => [layer, zipf(32, (rank) => (rank * 5 + layer) % 32)]));
    const unaware = planPlacement(base);
    const planned = planPlacement({ ...base, loads, hotCopies: 6, current: unaware });
    checkPlacement(planned, shape, all(4));
    expect(planned.epoch).toBe(unaware.epoch + 1);
    expect(shardLoads(planned, loads).maxOverMean).toBeLessThanOrEqual(1.25);
    expect(shardLoads(unaware, loads).maxOverMean).toBeGreaterThan(shardLoads(planned, loads).maxOverMean);
  });

  it('leaves what is where it is in a repair, and adds what a lost shard had', () => {
    const before = planPlacement(base);
    const after = planPlacement({ ...base, shards: shards(4).slice(1), current: before, repair: true });
    checkPlacement(after, shape, all(4));
    for (const id of ['s1', 's2', 's3']) {
      for (const [layer, experts] of expertsOf(before, id))
        expect(expertsOf(after, id).get(layer)).toEqual(expect.arrayContaining([...experts]));
    }
  });

  it('keeps the experts of a router group together where loads allow', () => {
    const grouped = { ...shape, groups: 4 };
    const placement = planPlacement({ ...base, shape: grouped });
    for (const { id } of base.shards) {
      const groups = new Set([...(expertsOf(placement, id).get(1) ?? [])].map((expert) => Math.floor(expert / 8)));
      expect(groups.size).toBe(1);
    }
  });

  it('refuses when memory does not suffice, saying what there is', () => {
    expect(() => planPlacement({ ...base, shards: shards(2, 20) })).toThrow(/m has 64 experts, its shards hold s0 20, s1 20/);
    expect(() => planPlacement({ ...base, shards: [] })).toThrow(/has no expert shard/);
  });

  it('gives every expert its copies on different shards, for any load', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 0, max: 10 }),
        fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 32, maxLength: 32 }),
        (count, minCopies, hotCopies, load) => {
          const loads = new Map([[1, load]]);
          const placement = planPlacement({ ...base, shards: shards(count), loads, minCopies, hotCopies });
          checkPlacement(placement, shape, all(count));
          for (const experts of Object.values(placement.layers)) {
            for (const homes of experts) expect(homes.length).toBeGreaterThanOrEqual(Math.min(minCopies, count));
            const copies = experts.reduce((sum, homes) => sum + homes.length, 0);
            expect(copies).toBe(Math.min(32 * count, 32 * Math.min(minCopies, count) + hotCopies));
          }
        },
      ),
    );
  });
});

describe('placementCopies', () => {
  const placement = planPlacement({ ...base, hotCopies: 4 });

  it('counts the shards that live: of the expert with fewest, and on average', () => {
    expect(placementCopies(placement, all(4))).toEqual({ fewest: 1, mean: 36 / 32 });
    expect(placementCopies(planPlacement({ ...base, minCopies: 2 }), all(4))).toEqual({ fewest: 2, mean: 2 });
  });

  it('finds what only a dead shard had, and what a repair brings back', () => {
    const living = new Set(['s1', 's2', 's3']);
    expect(placementCopies(placement, living).fewest).toBe(0);
    const repaired = planPlacement({ ...base, shards: shards(4).slice(1), current: placement, repair: true });
    expect(placementCopies(repaired, living).fewest).toBe(1);
    expect(placementCopies(placement, new Set())).toEqual({ fewest: 0, mean: 0 });
  });
});

describe('checkPlacement', () => {
  const good = planPlacement(base);
  it.each([
    [
      'an expert without a home',
      { ...good, layers: { ...good.layers, 1: [[], ...(good.layers[1] ?? []).slice(1)] } },
      /expert 0 of layer 1 has no shard/,
    ],
    ['a shard that is not there', { ...good, shards: ['s0', 's1', 's2', 'x'] }, /there is no shard x/],
    ['a layer too few', { ...good, layers: { 1: good.layers[1] ?? [] } }, /layer 2 has 0 experts; the model has 32/],
    ['a shard that is not named', { ...good, shards: ['s0', 's1', 's2'] }, /is on shard 3 of 3/],
  ])('refuses %s', (_, placement, message) => {
    expect(() => checkPlacement(placement, shape, all(4))).toThrow(message);
  });
});
