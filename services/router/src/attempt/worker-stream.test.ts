import { ServiceError } from '@causeway/errors';
import { AsyncQueue } from '@causeway/lifecycle';
import type { WorkerRecord } from '@causeway/registry';
import type { ByteStreamHandlers, ChannelPool } from '@causeway/rpc';
import { expect, it } from 'vitest';
import type { AttemptEvent, DecodeEvent } from './events.ts';
import { WorkerStream } from './worker-stream.ts';

const worker = { id: 'decode-0', address: '127.0.0.1:1' } as WorkerRecord;

/** A stream whose messages are one byte: below 100 a number of preemptions told before the last word, 100 the last word, 101 rubbish. */
function open(capacity: number) {
  const calls: string[] = [];
  let handlers: ByteStreamHandlers | undefined;
  const call = (name: string) => () => void calls.push(name);
  const channels = {
    byteStream: (_path: string, _address: string, given: ByteStreamHandlers) => {
      handlers = given;
      return { write: call('write'), end: call('end'), pause: call('pause'), resume: call('resume'), cancel: call('cancel') };
    },
  } as unknown as ChannelPool;
  const queue = new AsyncQueue<AttemptEvent>(capacity);
  const stream = new WorkerStream<DecodeEvent>({
    channels,
    worker,
    path: '/Decode',
    call: {},
    queue,
    read: ([byte = 0]) => {
      if (byte === 101) throw new ServiceError('rubbish', { code: 'internal', reason: 'internal', retry: 'other' });
      return { kind: 'finished', preemptions: byte, expertCalls: [] };
    },
    onEvent: (event) => event.kind === 'finished' && event.preemptions === 100,
    failed: 'decode_failed',
  });
  return {
    stream,
    queue,
    calls,
    say: (byte: number): void => handlers?.onMessage(Uint8Array.of(byte)),
    end: (error?: Error): void => handlers?.onEnd(error),
  };
}

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const byteOf = (event: AttemptEvent | undefined): number | undefined =>
  event?.kind === 'finished' ? event.preemptions : undefined;

it('rests while the queue is full and goes on when there is room, its failure after all that came before', async () => {
  const { queue, calls, say, end } = open(2);
  for (const byte of [1, 2, 3, 4]) say(byte);
  end(new ServiceError('gone', { code: 'unavailable', reason: 'worker_lost', retry: 'other' }));
  expect([queue.size, calls]).toEqual([2, ['pause']]);
  for (const byte of [1, 2, 3, 4]) expect(byteOf(await queue.shift())).toBe(byte);
  expect(await queue.shift()).toMatchObject({ kind: 'decode_failed', error: { reason: 'worker_lost' } });
  await tick();
  expect(calls).toEqual(['pause', 'resume']);
});

it('ends its side at the last word; an end before it is the loss of the worker', async () => {
  const good = open(8);
  good.say(100);
  good.end();
  expect(good.calls).toEqual(['end']);
  expect([byteOf(await good.queue.shift()), good.queue.size]).toEqual([100, 0]);
  const early = open(8);
  early.say(1);
  early.end();
  await early.queue.shift();
  expect(await early.queue.shift()).toMatchObject({
    kind: 'decode_failed',
    error: { reason: 'worker_lost', message: 'worker decode-0 ended its stream early' },
  });
});

it('gives a call up whose messages mean nothing', async () => {
  const { queue, calls, say } = open(8);
  say(101);
  expect(calls).toEqual(['cancel']);
  expect(await queue.shift()).toMatchObject({ kind: 'decode_failed', error: { message: 'rubbish' } });
});

it('queues nothing after it was cancelled', async () => {
  const { stream, queue, say } = open(1);
  say(1);
  say(2);
  say(3);
  stream.cancel();
  expect(byteOf(await queue.shift())).toBe(1);
  await tick();
  // The one that was on its way into the queue may still come.
  expect(queue.size).toBeLessThanOrEqual(1);
  if (queue.size === 1) expect(byteOf(await queue.shift())).toBe(2);
  await tick();
  expect(queue.size).toBe(0);
});
