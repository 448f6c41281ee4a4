import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { abortable, awaitDependency, backoff, deadlineSignal, linkSignals, sleep, TaskGroup } from './index.ts';

test('a linked signal aborts with the first source and leaves no listener', () => {
  const a = new AbortController();
  const b = new AbortController();
  {
    using linked = linkSignals(a.signal, undefined, b.signal);
    expect(getEventListeners(a.signal, 'abort')).toHaveLength(1);
    b.abort('why');
    expect(linked.signal.reason).toBe('why');
    expect(getEventListeners(a.signal, 'abort')).toHaveLength(0);
  }
  {
    using linked = linkSignals(a.signal);
    expect(linked.signal.aborted).toBe(false);
  }
  expect(getEventListeners(a.signal, 'abort')).toHaveLength(0);
  expect(linkSignals(a.signal, AbortSignal.abort('already')).signal.reason).toBe('already');
  expect(getEventListeners(a.signal, 'abort')).toHaveLength(0);
});

test('a deadline aborts with deadline_exceeded and counts down', async () => {
  using deadline = deadlineSignal(30);
  expect(deadline.remainingMs()).toBeGreaterThan(0);
  await expect(sleep(10_000, deadline.signal)).rejects.toMatchObject({ code: 'deadline_exceeded', reason: 'deadline' });
  expect(deadline.remainingMs()).toBe(0);
  using none = deadlineSignal(Number.POSITIVE_INFINITY);
  expect(none.remainingMs()).toBe(Number.POSITIVE_INFINITY);
  using far = deadlineSignal(1e12);
  await sleep(5);
  expect(far.signal.aborted).toBe(false);
  using past = deadlineSignal(-5);
  await expect(sleep(10_000, past.signal)).rejects.toMatchObject({ reason: 'deadline' });
});

test('sleep and abortable end with the reason and leave no listener', async () => {
  const controller = new AbortController();
  await sleep(1, controller.signal);
  expect(await abortable(Promise.resolve(4), controller.signal)).toBe(4);
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
  const slept = sleep(10_000, controller.signal);
  const waited = abortable(new Promise(() => undefined), controller.signal);
  controller.abort(new Error('stop'));
  await expect(slept).rejects.toThrow('stop');
  await expect(waited).rejects.toThrow('stop');
});

test('backoff grows to its limit, with jitter between half and whole steps', () => {
  const low = backoff({ minMs: 10, maxMs: 50, random: () => 0 });
  expect([1, 2, 3, 4, 5].map(() => low.next().value)).toEqual([5, 10, 20, 25, 25]);
  const high = backoff({ minMs: 10, maxMs: 50, random: () => 1 });
  expect([1, 2, 3, 4].map(() => high.next().value)).toEqual([10, 20, 40, 50]);
});

test('a dependency is waited for; when it never comes the error says which and why', async () => {
  let calls = 0;
  const told: string[] = [];
  const value = await awaitDependency({
    what: 'NATS at x',
    deadlineMs: 5000,
    backoff: { minMs: 1 },
    attempt: async () => {
      if (++calls < 3) throw new Error('connection refused');
      return 'connected';
    },
    onRetry: (message) => void told.push(message),
  });
  expect([value, told]).toEqual(['connected', Array(2).fill('waiting for NATS at x: connection refused')]);
  const never = awaitDependency({
    what: 'NATS at x',
    deadlineMs: 30,
    attempt: () => Promise.reject(new Error('refused')),
    backoff: { minMs: 5 },
  });
  await expect(never).rejects.toMatchObject({ reason: 'dependency_unavailable' });
  const stopped = awaitDependency({
    what: 'x',
    deadlineMs: 5000,
    attempt: () => Promise.reject(new Error('no')),
    signal: AbortSignal.abort(new Error('shutdown')),
  });
  await expect(stopped).rejects.toThrow('shutdown');
});

test('a task group aborts and waits on disposal, and crashes surface once', async () => {
  const crashes: string[] = [];
  const group = new TaskGroup({ onCrash: (error, name) => void crashes.push(`${name}: ${(error as Error).message}`) });
  let cleaned = false;
  void group.spawn('worker', async (signal) => {
    await sleep(60_000, signal).finally(() => {
      cleaned = true;
    });
  });
  await group.spawn('broken', () => Promise.reject(new Error('boom')));
  await group.spawn('sync broken', () => {
    throw new Error('at once');
  });
  await group.spawn('fine', async () => undefined);
  expect(group.names).toEqual(['worker']);
  await group[Symbol.asyncDispose]();
  await group[Symbol.asyncDispose]();
  expect(cleaned).toBe(true);
  expect(crashes).toEqual(['broken: boom', 'sync broken: at once']);
  await group.spawn('late', () => Promise.reject(new Error('never runs')));
  expect(group.names).toEqual([]);
});
