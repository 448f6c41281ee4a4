/** Spreads conversion jobs over a few worker threads that live as long as the call. */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { fail } from '@causeway/errors';
import { type ConvertJob, jobBytes } from './convert-job.ts';
import type { ConvertReply } from './convert-worker.ts';

const MOST_THREADS = 4;
/** Below this, a second thread costs more than it brings. */
const BYTES_PER_THREAD = 16 * 1024 * 1024;

export interface ConvertOptions {
  onBytes?: ((bytes: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

function checkCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) fail('cancelled', 'cancelled', 'loading the model was cancelled');
}

async function drain(worker: Worker, queue: ConvertJob[], options: ConvertOptions): Promise<void> {
  for (let job = queue.pop(); job !== undefined; job = queue.pop()) {
    checkCancelled(options.signal);
    const answered = once(worker, 'message') as Promise<[ConvertReply]>;
    worker.postMessage(job);
    const [reply] = await answered;
    if (reply !== undefined) fail('internal', 'internal', `converting weights (${job.kind}): ${reply}`);
    options.onBytes?.(jobBytes(job));
  }
}

/**
 * Runs every job, largest first. The memory that jobs name must stay alive until the promise settles; when it settles no
 * thread touches it any more. Throws ServiceError `cancelled` or `internal`.
 */
export async function runConvertJobs(jobs: readonly ConvertJob[], options: ConvertOptions = {}): Promise<void> {
  checkCancelled(options.signal);
  if (jobs.length === 0) return;
  const total = jobs.reduce((sum, job) => sum + jobBytes(job), 0);
  const threads = Math.min(MOST_THREADS, availableParallelism(), jobs.length, 1 + Math.floor(total / BYTES_PER_THREAD));
  const queue = jobs.toSorted((a, b) => jobBytes(a) - jobBytes(b));
  const workers = Array.from({ length: threads }, () => new Worker(new URL('./convert-worker.ts', import.meta.url)));
  try {
    await Promise.all(workers.map((worker) => drain(worker, queue, options)));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
