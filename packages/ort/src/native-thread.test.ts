import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { endThread } from './native-thread.ts';

function start(): { worker: Worker; heard: unknown[] } {
  const worker = new Worker(new URL('./testing/loading-thread.ts', import.meta.url), { execArgv: [] });
  const heard: unknown[] = [];
  worker.on('message', (message) => heard.push(message));
  return { worker, heard };
}

test('a thread that is asked to end while it loads has loaded, and done what it was sent before', async () => {
  const { worker, heard } = start();
  worker.unref();
  worker.postMessage('first');
  await endThread(worker);
  expect(heard).toEqual(['loaded', 'first']);
});

test('a thread that is gone is not waited for', async () => {
  const { worker } = start();
  await endThread(worker);
  await endThread(worker);
  expect(worker.threadId).toBe(-1);
});
