import { Worker } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import type { TokenizerJob, TokenizerReply } from './tokenizer-messages.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

interface Waiting {
  resolve(value: unknown): void;
  reject(error: ServiceError): void;
}

/** One tokenizing thread. It has at most one job; when it ends, its job fails and `ended` is true. */
export class TokenizerThread implements AsyncDisposable {
  /** Resolves when the tokenizer is loaded; rejects when it can't be. */
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  #waiting: Waiting | undefined;
  #ended = false;

  constructor(source: TokenizerSource, script: URL) {
    this.#worker = new Worker(script, {
      name: 'tokenizer',
      execArgv: [],
      workerData: source,
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Who waits for a job hears of the failure there.
    promise.catch(() => undefined);
    this.ready = promise;
    const end = (cause: unknown): void => {
      this.#ended = true;
      const error = new ServiceError('the tokenizer thread ended before its job', {
        code: 'internal',
        reason: 'internal',
        retry: 'same',
        cause,
      });
      reject(error);
      this.#take()?.reject(error);
    };
    this.#worker.on('message', (reply: TokenizerReply) => {
      if (reply.kind === 'ready') resolve();
      else this.#settle(reply);
    });
    this.#worker.on('error', end);
    this.#worker.on('exit', end);
    // An idle thread keeps no process alive; a listener on the port would, so this comes last.
    this.#worker.unref();
  }

  get busy(): boolean {
    return this.#waiting !== undefined;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Runs a job; buffers in `transfer` are handed over. Call only when not busy.
   * @throws ServiceError of the tokenizer, or `internal` when the thread ends.
   */
  run(job: TokenizerJob, transfer: readonly ArrayBuffer[] = []): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#worker.ref();
      this.#worker.postMessage(job, transfer);
    });
  }

  /** Ends the thread at once; its job fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  #settle(reply: Exclude<TokenizerReply, { kind: 'ready' }>): void {
    const waiting = this.#take();
    if (reply.kind === 'done') {
      waiting?.resolve(reply.value);
      return;
    }
    const { code, reason, message, field } = reply;
    waiting?.reject(new ServiceError(message, { code, reason, ...(field === undefined ? {} : { field }) }));
  }

  #take(): Waiting | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.#worker.unref();
    return waiting;
  }
}
