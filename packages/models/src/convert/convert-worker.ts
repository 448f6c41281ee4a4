/** A conversion thread: runs the jobs it is sent, one at a time, and answers each with nothing or an error text. */
import { parentPort } from 'node:worker_threads';
import type { ConvertJob } from './convert-job.ts';
import { runJob } from './run-job.ts';

/** Answer to one job: undefined when done, else what went wrong. */
export type ConvertReply = string | undefined;

parentPort?.on('message', (job: ConvertJob) => {
  let reply: ConvertReply;
  try {
    runJob(job);
  } catch (error) {
    reply = error instanceof Error ? error.message : String(error);
  }
  parentPort?.postMessage(reply);
});
