import { liveBuffers } from '@causeway/ort';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KvDescriptor } from './descriptor.ts';
import { PagePool } from './page-pool.ts';

const descriptor: KvDescriptor = {
  version: 1,
  layers: [
    { kind: 'full', kvHeads: 1, headDimK: 8, headDimV: 4 },
    { kind: 'latent', rank: 6, ropeDim: 2 },
  ],
  storage: { dtype: 'bf16', layout: 'NHD', blockTokens: 4, shards: { count: 1, index: 0 } },
};

describe('PagePool', () => {
  test('reserves all or nothing and gives unique epochs', () => {
    using pool = new PagePool({ descriptor, pageCount: 4 });
    expect(pool.pageBytes).toBe((12 + 8) * 2 * 4);
    const a = pool.reserve(3);
    expect(a?.pages.length).toBe(3);
    expect(pool.reserve(2)).toBeUndefined();
    expect(pool.freePages).toBe(1);
    const b = pool.reserve(1);
    expect(b?.epoch).not.toBe(a?.epoch);
    expect(a?.extend(1)).toBe(false);
    b?.[Symbol.dispose]();
    expect(a?.extend(1)).toBe(true);
    expect(a?.pages.length).toBe(4);
    a?.[Symbol.dispose]();
    expect(pool.freePages).toBe(4);
  });

  test('pages return only when released and no hold remains', () => {
    using pool = new PagePool({ descriptor, pageCount: 2 });
    const freed: number[] = [];
    using _listener = pool.onFreed((free) => freed.push(free));
    const set = pool.reserve(2) ?? expect.fail();
    const first = set.hold();
    const second = set.hold();
    set[Symbol.dispose]();
    expect(pool.freePages).toBe(0);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    expect(pool.freePages).toBe(0);
    expect(() => set.hold()).toThrow(/released/);
    second[Symbol.dispose]();
    expect(pool.freePages).toBe(2);
    expect(freed).toEqual([2]);
  });

  test('walks reserved -> filling -> committed -> owned -> released and nothing else', () => {
    using pool = new PagePool({ descriptor, pageCount: 1 });
    using set = pool.reserve(1) ?? expect.fail();
    expect(() => set.commit()).toThrow(/reserved/);
    expect(() => set.assertReadable()).toThrow(expect.objectContaining({ reason: 'not_committed' }));
    set.startFilling();
    expect(() => set.own()).toThrow(/filling/);
    set.commit();
    set.assertReadable();
    set.own();
    expect(set.state).toBe('owned');
    set[Symbol.dispose]();
    expect(set.state).toBe('released');
    expect(() => set.startFilling()).toThrow(/released/);
  });

  test('memory outlives the pool until the last hold is gone', () => {
    const before = liveBuffers();
    const pool = new PagePool({ descriptor, pageCount: 1 });
    const set = pool.reserve(1) ?? expect.fail();
    const hold = set.hold();
    set[Symbol.dispose]();
    pool[Symbol.dispose]();
    expect(liveBuffers()).toBe(before + 1);
    hold[Symbol.dispose]();
    expect(liveBuffers()).toBe(before);
  });

  test('never hands one page to two sets, whatever the order of calls', () => {
    const step = fc.record({ kind: fc.constantFrom('reserve', 'release', 'hold', 'unhold', 'extend'), n: fc.nat(5) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        using pool = new PagePool({ descriptor, pageCount: 8 });
        const sets: { set: NonNullable<ReturnType<PagePool['reserve']>>; holds: Disposable[] }[] = [];
        for (const { kind, n } of steps) {
          const entry = sets[n % Math.max(1, sets.length)];
          if (kind === 'reserve') {
            const set = pool.reserve(n + 1);
            if (set !== undefined) sets.push({ set, holds: [] });
          } else if (entry === undefined) continue;
          else if (kind === 'release') entry.set[Symbol.dispose]();
          else if (kind === 'unhold') entry.holds.pop()?.[Symbol.dispose]();
          else if (entry.set.state !== 'released') {
            if (kind === 'hold') entry.holds.push(entry.set.hold());
            else entry.set.extend(n + 1);
          }
          const inUse = sets
            .filter(({ set, holds }) => set.state !== 'released' || holds.length > 0)
            .flatMap(({ set }) => set.pages);
          expect(new Set(inUse).size).toBe(inUse.length);
          expect(inUse.length + pool.freePages).toBe(8);
        }
        for (const { set, holds } of sets) {
          set[Symbol.dispose]();
          for (const hold of holds) hold[Symbol.dispose]();
        }
        expect(pool.freePages).toBe(8);
      }),
    );
  });

  describe('forks', () => {
    /** A committed set of `pages` pages. */
    function committed(pool: PagePool, pages: number) {
      const set = pool.reserve(pages) ?? expect.fail();
      set.startFilling();
      set.commit();
      return set;
    }

    test('share leading pages, own the others, and give the shared ones back with the last of them', () => {
      using pool = new PagePool({ descriptor, pageCount: 8 });
      const base = committed(pool, 7);
      const all = [...base.pages];
      const a = base.fork(2, 2);
      const b = base.fork(2, 1);
      expect(a.pages).toEqual([...all.slice(0, 2), ...all.slice(5)]);
      expect(b.pages).toEqual([...all.slice(0, 2), all[4]]);
      expect([a.sharedPages, b.sharedPages, base.sharedPages]).toEqual([2, 2, 0]);
      expect([a.state, a.epoch, base.pages.length]).toEqual(['owned', base.epoch, 4]);
      base[Symbol.dispose]();
      expect(pool.freePages).toBe(1);
      expect(a.extend(1)).toBe(true);
      const hold = a.hold();
      a[Symbol.dispose]();
      expect(pool.freePages).toBe(0);
      hold[Symbol.dispose]();
      expect(pool.freePages).toBe(3);
      b[Symbol.dispose]();
      expect(pool.freePages).toBe(8);
    });

    test('are refused before the pages may be read, after release, and without pages enough', () => {
      using pool = new PagePool({ descriptor, pageCount: 4 });
      const raw = pool.reserve(2) ?? expect.fail();
      expect(() => raw.fork(1, 1)).toThrow(expect.objectContaining({ reason: 'not_committed' }));
      raw[Symbol.dispose]();
      expect(() => raw.fork(1, 1)).toThrow(expect.objectContaining({ reason: 'not_committed' }));
      const base = committed(pool, 4);
      for (const [shared, own] of [
        [2, 3],
        [0, 5],
        [1, 0],
        [-1, 1],
      ] as const) {
        expect(() => base.fork(shared, own)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
      }
      expect(base.holds).toBe(0);
      const fork = base.fork(2, 1);
      // What it shares isn't its own to give away.
      expect(() => fork.fork(0, 2)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
      base[Symbol.dispose]();
      fork[Symbol.dispose]();
      expect(pool.freePages).toBe(4);
    });

    test('no page is free or owned twice while anybody lists it, whatever the order of calls', () => {
      const step = fc.record({
        kind: fc.constantFrom('reserve', 'fork', 'extend', 'hold', 'unhold', 'release'),
        n: fc.nat(11),
        m: fc.nat(3),
      });
      fc.assert(
        fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
          using pool = new PagePool({ descriptor, pageCount: 12 });
          const sets: { set: ReturnType<typeof committed>; holds: Disposable[]; lent: number }[] = [];
          for (const { kind, n, m } of steps) {
            const entry = sets[n % Math.max(1, sets.length)];
            if (kind === 'reserve') {
              if (pool.freePages > n) sets.push({ set: committed(pool, n + 1), holds: [], lent: 0 });
            } else if (entry === undefined) continue;
            else if (kind === 'release') entry.set[Symbol.dispose]();
            else if (kind === 'unhold') entry.holds.pop()?.[Symbol.dispose]();
            else if (entry.set.state === 'released') continue;
            else if (kind === 'hold') entry.holds.push(entry.set.hold());
            else if (kind === 'extend') entry.set.extend(m + 1);
            else {
              const shared = entry.set.pages.length - m - 1;
              if (shared < Math.max(entry.set.sharedPages, entry.lent)) {
                expect(() => entry.set.fork(shared, m + 1)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
                continue;
              }
              sets.push({ set: entry.set.fork(shared, m + 1), holds: [], lent: 0 });
              entry.lent = Math.max(entry.lent, shared);
            }
            const live = sets.filter(({ set, holds }) => set.state !== 'released' || holds.length > 0);
            const owned = live.flatMap(({ set }) => set.pages.slice(set.sharedPages));
            expect(new Set(owned).size).toBe(owned.length);
            const listed = new Set(live.flatMap(({ set }) => set.pages));
            using free = pool.freePages === 0 ? undefined : pool.reserve(pool.freePages);
            expect((free?.pages ?? []).filter((page) => listed.has(page))).toEqual([]);
          }
          for (const { set, holds } of sets) {
            set[Symbol.dispose]();
            for (const hold of holds) hold[Symbol.dispose]();
          }
          expect(pool.freePages).toBe(12);
        }),
        { numRuns: 1_000 },
      );
    });
  });
});
