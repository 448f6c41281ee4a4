/** A conversion thread: runs the jobs it is sent, one at a time, and answers each with nothing or an error text. */
import { parentPort } from 'node:worker_threads';
import { serveThread } from '@causeway/ort';
import type { ConvertJob } from './convert-job.ts';
import { runJob } from './run-job.ts';

/** Answer to one job: undefined when done, else what went wrong. */
export type ConvertReply = string | undefined;

const port = parentPort;
if (port === null) throw new Error('convert-worker.ts runs as a worker thread only');

serveThread<ConvertJob>(port, (job) => {
  let reply: ConvertReply;
  try {
    runJob(job);
  } catch (error) {
    reply = error instanceof Error ? error.message : String(error);
  }
  port.postMessage(reply);
});
