import { liveBuffers } from '@causeway/ort';
import { expect, test } from 'vitest';
import { SlotArena } from './slot-arena.ts';

const never = new AbortController().signal;

test('slots do not overlap and are given in order of asking', async () => {
  using arena = new SlotArena(64, 2);
  const a = await arena.acquire(never);
  const b = await arena.acquire(never);
  a.bytes.fill(1);
  b.bytes.fill(2);
  expect(a.bytes.every((byte) => byte === 1)).toBe(true);
  expect(arena.tryAcquire()).toBeUndefined();
  const order: string[] = [];
  const c = arena.acquire(never).then((slot) => (order.push('c'), slot));
  const d = arena.acquire(never).then((slot) => (order.push('d'), slot));
  expect(arena.waiting).toBe(2);
  a.release();
  a.release();
  (await c).release();
  (await d).release();
  b.release();
  expect(order).toEqual(['c', 'd']);
  expect(arena.freeSlots).toBe(2);
});

test('who waits can give up', async () => {
  using arena = new SlotArena(64, 1);
  const slot = await arena.acquire(never);
  const controller = new AbortController();
  const waiting = arena.acquire(controller.signal);
  controller.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  slot.release();
  expect(arena.freeSlots).toBe(1);
});

test('disposal refuses those who wait and frees the memory when every slot is back', async () => {
  const before = liveBuffers();
  const arena = new SlotArena(64, 1);
  const slot = await arena.acquire(never);
  const waiting = arena.acquire(never);
  arena[Symbol.dispose]();
  await expect(waiting).rejects.toMatchObject({ reason: 'draining' });
  expect(liveBuffers()).toBe(before + 1);
  slot.release();
  expect(liveBuffers()).toBe(before);
});
