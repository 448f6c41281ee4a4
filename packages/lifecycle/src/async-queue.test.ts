import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AsyncQueue } from './async-queue.ts';

test('items come out in order, whatever the interleaving of producers and consumers', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 0, max: 200 }),
      fc.integer({ min: 1, max: 3 }),
      async (capacity, count, consumers) => {
        const queue = new AsyncQueue<number>(capacity);
        const out: number[] = [];
        let most = 0;
        const consume = async (): Promise<void> => {
          for await (const item of queue) out.push(item);
        };
        const running = Array.from({ length: consumers }, consume);
        for (let i = 0; i < count; i++) {
          expect(await queue.push(i)).toBe(true);
          most = Math.max(most, queue.size);
        }
        queue.close();
        await Promise.all(running);
        expect(out).toEqual(Array.from({ length: count }, (_, i) => i));
        expect(most).toBeLessThanOrEqual(capacity);
      },
    ),
    { numRuns: 50 },
  );
});

test('a full queue refuses tryPush and makes push wait', async () => {
  const queue = new AsyncQueue<string>(1);
  expect(queue.tryPush('a')).toBe(true);
  expect(queue.tryPush('b')).toBe(false);
  let pushed = false;
  const push = queue.push('b').then((ok) => {
    pushed = ok;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(pushed).toBe(false);
  expect(await queue.shift()).toBe('a');
  await push;
  expect(await queue.shift()).toBe('b');
});

test('an aborted waiter leaves, and the wake-up goes to the next', async () => {
  const queue = new AsyncQueue<number>(1);
  const controller = new AbortController();
  const first = queue.shift(controller.signal);
  const second = queue.shift();
  controller.abort(new Error('enough'));
  await expect(first).rejects.toThrow('enough');
  queue.tryPush(1);
  expect(await second).toBe(1);
  await expect(queue.push(1, AbortSignal.abort(new Error('late')))).rejects.toThrow('late');
});

test('close ends waiting producers and consumers; fail drops what is queued', async () => {
  const queue = new AsyncQueue<number>(1);
  queue.tryPush(1);
  const push = queue.push(2);
  queue.close();
  expect(await push).toBe(false);
  expect(queue.tryPush(3)).toBe(false);
  expect(await queue.shift()).toBe(1);
  expect(await queue.shift()).toBeUndefined();

  const failing = new AsyncQueue<number>(2);
  failing.tryPush(1);
  failing.fail(new Error('broken'));
  await expect(failing.shift()).rejects.toThrow('broken');
  expect(() => new AsyncQueue(0)).toThrow(/at least 1/);
});

test('an undefined item is delivered', async () => {
  const queue = new AsyncQueue<undefined | number>(3);
  queue.tryPush(undefined);
  queue.tryPush(2);
  queue.close();
  const all: unknown[] = [];
  for await (const item of queue) all.push(item);
  expect(all).toEqual([undefined, 2]);
});
