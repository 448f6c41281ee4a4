/**
 * Threads that load native code. One that is terminated while it loads koffi takes the whole process with it: the addon throws where
 * nothing can be thrown any more, and node-addon-api aborts. So these threads are asked to end, and end by themselves.
 */
import type { MessagePort, Worker } from 'node:worker_threads';

const END = 'end of thread';

/** In the thread: serves what it is sent until `endThread` asks it to end. */
export function serveThread<Request>(port: MessagePort, serve: (request: Request) => void): void {
  port.on('message', (request: Request | typeof END) => {
    if (request === END) port.close();
    else serve(request);
  });
}

/** Ends a thread that calls `serveThread`: once it has loaded, and after what it was sent before. Resolves when it is gone. */
export async function endThread(worker: Worker): Promise<void> {
  // A thread that is gone has no number.
  if (worker.threadId < 0) return;
  const gone = new Promise((resolve) => worker.once('exit', resolve));
  worker.ref();
  worker.postMessage(END);
  await gone;
}
