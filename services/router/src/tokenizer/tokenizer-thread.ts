/** Runs in a worker thread: one tokenizer, one task at a time. */
import { ServiceError } from '@causeway/errors';
import { loadTokenizer, type TokenizerSource } from '@causeway/model-files';
import { Tinypool } from 'tinypool';
import type { TokenizeResult, TokenizeTask } from './thread-messages.ts';

const tokenizer = loadTokenizer(Tinypool.workerData as TokenizerSource);

/** Encodes a text or a conversation; errors are values, since classes don't survive the way back. */
export default function tokenize(task: TokenizeTask): TokenizeResult {
  try {
    const ids = task.kind === 'text' ? tokenizer.encode(task.text) : tokenizer.encodeChat(task.messages);
    return { kind: 'ids', ids: Uint32Array.from(ids) };
  } catch (thrown) {
    const { code, reason, retry, message, field } = ServiceError.from(thrown);
    return { kind: 'error', error: { code, reason, retry, message, field } };
  }
}
