/** Thread that tokenizes; started by TokenizerPool with a TokenizerSource. One job at a time, answered in order. */
import { parentPort, workerData } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import { loadTokenizer } from './tokenizer.ts';
import type { TokenizerJob, TokenizerReply } from './tokenizer-messages.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

const port = parentPort;
if (port === null) throw new Error('tokenizer-worker.ts runs as a worker thread only');

const tokenizer = loadTokenizer(workerData as TokenizerSource);

function answer(job: TokenizerJob): TokenizerReply {
  try {
    const ids = job.kind === 'text' ? tokenizer.encode(job.text) : tokenizer.encodeChat(job.messages);
    return { kind: 'ids', ids: Uint32Array.from(ids) };
  } catch (error) {
    const { code, reason, message, field } = ServiceError.from(error);
    return { kind: 'failed', code, reason, message, field };
  }
}

port.on('message', (job: TokenizerJob) => {
  const reply = answer(job);
  port.postMessage(reply, reply.kind === 'ids' ? [reply.ids.buffer as ArrayBuffer] : []);
});
port.postMessage({ kind: 'ready' } satisfies TokenizerReply);
