/** The thread's side of a TokenizerPool. */
import { parentPort, workerData } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import { loadTokenizer, type Tokenizer } from './tokenizer.ts';
import type { TokenizerJob, TokenizerReply } from './tokenizer-messages.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

/** What a job gives; buffers in `transfer` are handed over, not copied. */
export interface OwnResult {
  value: unknown;
  transfer: readonly ArrayBuffer[];
}

/**
 * Serves this thread's pool: one job at a time, answered in order. `own` does the jobs of the program's own kind (`TokenizerPool.run`),
 * beside the tokenizer and with it. Call it once, in the script of a worker thread.
 */
export function serveTokenizer(own?: (tokenizer: Tokenizer, input: unknown) => OwnResult): void {
  const port = parentPort;
  if (port === null) throw new Error('a tokenizer is served in a worker thread only');
  const tokenizer = loadTokenizer(workerData as TokenizerSource);

  const work = (job: TokenizerJob): OwnResult => {
    switch (job.kind) {
      case 'text':
        return idsResult(tokenizer.encode(job.text));
      case 'chat':
        return idsResult(tokenizer.encodeChat(job.messages, job.options));
      case 'own':
        if (own === undefined) throw new Error('this thread has no jobs of its own kind');
        return own(tokenizer, job.input);
    }
  };
  port.on('message', (job: TokenizerJob) => {
    try {
      const { value, transfer } = work(job);
      port.postMessage({ kind: 'done', value } satisfies TokenizerReply, transfer);
    } catch (error) {
      const { code, reason, message, field } = ServiceError.from(error);
      port.postMessage({ kind: 'failed', code, reason, message, field } satisfies TokenizerReply);
    }
  });
  port.postMessage({ kind: 'ready' } satisfies TokenizerReply);
}

/** Ids as they cross threads. */
function idsResult(ids: readonly number[]): OwnResult {
  const value = Uint32Array.from(ids);
  return { value, transfer: [value.buffer] };
}
