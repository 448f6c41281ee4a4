import type { KvDescriptor, PageSet } from '@causeway/kv';
import { PagePool } from '@causeway/kv';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReservationLine } from './admission.ts';

const descriptor: KvDescriptor = {
  version: 1,
  layers: [{ kind: 'latent', rank: 8, ropeDim: 8 }],
  storage: { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
};

function start(pageCount: number, maxWaiting = 100) {
  const stack = new DisposableStack();
  const pool = stack.use(new PagePool({ descriptor, pageCount }));
  const line = stack.use(new ReservationLine(pool, maxWaiting));
  const order: string[] = [];
  const never = new AbortController().signal;
  const note = (name: string, granted: Promise<PageSet>): Promise<PageSet> =>
    granted.then((set) => {
      order.push(name);
      return set;
    });
  return { pool, line, order, never, note, [Symbol.dispose]: () => stack.dispose() };
}

describe('ReservationLine', () => {
  it('serves in order: a small request never passes a large one that waits', async () => {
    using t = start(4);
    const held = await t.line.reserve(3, t.never);
    const large = t.note('large', t.line.reserve(4, t.never));
    const small = t.note('small', t.line.reserve(1, t.never));
    expect(t.line.waiting).toBe(2);
    held[Symbol.dispose]();
    (await large)[Symbol.dispose]();
    await small;
    expect(t.order).toEqual(['large', 'small']);
  });

  it('puts preempted sequences first, oldest first', async () => {
    using t = start(1);
    const held = await t.line.reserve(1, t.never);
    const all = [
      t.note('new', t.line.reserve(1, t.never)),
      t.note('again 7', t.line.reserveAgain(1, 7, t.never)),
      t.note('again 3', t.line.reserveAgain(1, 3, t.never)),
    ].map((granted) => granted.then((set) => set[Symbol.dispose]()));
    held[Symbol.dispose]();
    await Promise.all(all);
    expect(t.order).toEqual(['again 3', 'again 7', 'new']);
  });

  it('refuses what never fits and who finds the line full, but never a preempted sequence', async () => {
    using t = start(2, 1);
    const error = expect.objectContaining({ code: 'resource_exhausted', reason: 'no_capacity' });
    await expect(t.line.reserve(3, t.never)).rejects.toEqual(error);
    const held = await t.line.reserve(2, t.never);
    const waiting = t.line.reserve(1, t.never);
    await expect(t.line.reserve(1, t.never)).rejects.toEqual(error);
    const again = t.line.reserveAgain(1, 0, t.never);
    held[Symbol.dispose]();
    await Promise.all([waiting, again]);
  });

  it('lets the next one go when the head is cancelled', async () => {
    using t = start(2);
    await t.line.reserve(1, t.never);
    const cancel = new AbortController();
    const head = t.line.reserve(2, cancel.signal);
    const next = t.line.reserve(1, t.never);
    cancel.abort();
    await expect(head).rejects.toEqual(expect.objectContaining({ code: 'cancelled' }));
    await next;
    expect(t.pool.freePages).toBe(0);
    await expect(t.line.reserve(1, cancel.signal)).rejects.toEqual(expect.objectContaining({ code: 'cancelled' }));
  });

  it('refuses all at the end', async () => {
    using t = start(1);
    await t.line.reserve(1, t.never);
    const waiting = t.line.reserve(1, t.never);
    t.line[Symbol.dispose]();
    const error = expect.objectContaining({ code: 'unavailable', reason: 'draining' });
    await expect(waiting).rejects.toEqual(error);
    await expect(t.line.reserve(1, t.never)).rejects.toEqual(error);
  });

  it('serves everybody who is not cancelled, whatever the order of requests, cancels and releases', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ pages: fc.integer({ min: 1, max: 6 }), cancel: fc.boolean() })), async (requests) => {
        using t = start(6);
        let served = 0;
        await Promise.all(
          requests.map(async ({ pages, cancel }, i) => {
            const controller = new AbortController();
            const granted = t.line.reserve(pages, controller.signal);
            if (cancel) controller.abort();
            const set = await granted.catch(() => undefined);
            if (set === undefined) return;
            served++;
            if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
            set[Symbol.dispose]();
          }),
        );
        expect(served).toBeGreaterThanOrEqual(requests.filter((request) => !request.cancel).length);
        expect(t.pool.freePages).toBe(6);
        expect(t.line.waiting).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});
