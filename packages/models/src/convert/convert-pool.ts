/** Spreads conversion jobs over a few worker threads, which stay for the next jobs. */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { fail } from '@causeway/errors';
import { endThread } from '@causeway/ort';
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

/** Threads are started when there is work for them, and end when the pool is disposed or a job fails. */
export class ConvertPool implements AsyncDisposable {
  #workers: Worker[] = [];
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs every job, largest first, after those asked for before. The memory that jobs name must stay alive until the promise settles; when
   * it settles no thread touches it any more. Throws ServiceError `cancelled` or `internal`.
   */
  run(jobs: readonly ConvertJob[], options: ConvertOptions = {}): Promise<void> {
    const run = this.#last.then(() => this.#run(jobs, options));
    this.#last = run.catch(() => undefined);
    return run;
  }

  /** Ends the threads; jobs under way end first. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#end();
  }

  async #run(jobs: readonly ConvertJob[], options: ConvertOptions): Promise<void> {
    checkCancelled(options.signal);
    if (jobs.length === 0) return;
    const total = jobs.reduce((sum, job) => sum + jobBytes(job), 0);
    const threads = Math.min(MOST_THREADS, availableParallelism(), jobs.length, 1 + Math.floor(total / BYTES_PER_THREAD));
    const queue = jobs.toSorted((a, b) => jobBytes(a) - jobBytes(b));
    while (this.#workers.length < threads) this.#workers.push(new Worker(new URL('./convert-worker.ts', import.meta.url)));
    try {
      await Promise.all(this.#workers.slice(0, threads).map((worker) => drain(worker, queue, options)));
    } catch (error) {
      // Another may be in the middle of a job.
      await this.#end();
      throw error;
    }
  }

  async #end(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map(endThread));
  }
}
