/** A thread that loads native code, says so, and then says what it is sent; for tests. */
import { parentPort } from 'node:worker_threads';
import { libc } from '../library.ts';
import { serveThread } from '../native-thread.ts';

const port = parentPort;
if (port === null) throw new Error('loading-thread.ts runs as a worker thread only');
libc();
port.postMessage('loaded');
serveThread<string>(port, (request) => port.postMessage(request));
