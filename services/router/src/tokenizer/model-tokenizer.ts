import { availableParallelism } from 'node:os';
import { fail } from '@causeway/errors';
import { openCheckpoint, readChatTemplate, TokenizerPool } from '@causeway/model-files';
import type { RouterTokenizer } from './tokenizer.ts';

export interface ModelTokenizer extends RouterTokenizer, AsyncDisposable {
  /** The checkpoint's own name. */
  readonly name: string;
}

const THREAD_SCRIPT = new URL('../request/request-worker.ts', import.meta.url);

/**
 * The tokenizer of a checkpoint, with threads for long prompts and large requests. `templatePath`: a file with the chat template to be
 * used instead of the checkpoint's own.
 * @throws ServiceError of the checkpoint reader, `unsupported_format` when there is no tokenizer.
 */
export async function openModelTokenizer(path: string, threads: number, templatePath?: string): Promise<ModelTokenizer> {
  using checkpoint = await openCheckpoint(path);
  const { name, tokenizerSource: own } = checkpoint;
  if (own === undefined) fail('failed_precondition', 'unsupported_format', `${path} has no tokenizer; the router needs one`);
  const source =
    templatePath === undefined ? own : { ...own, chatTemplate: readChatTemplate(templatePath), toolTemplate: undefined };
  const pool = await TokenizerPool.start({ source, threads: Math.min(threads, availableParallelism()), script: THREAD_SCRIPT });
  return {
    name,
    vocabSize: pool.tokenizer.vocabSize,
    encode: (text, signal) => pool.encode(text, signal),
    encodeChat: (messages, options, signal) => pool.encodeChat(messages, options, signal),
    request: (job, signal) => pool.run(job, [job.body.buffer as ArrayBuffer], signal),
    decodeStream: (spoken) => pool.tokenizer.decodeStream(spoken),
    decodeAll: (ids) => pool.tokenizer.decodeAll(ids),
    templateFacts: () => pool.tokenizer.templateFacts(),
    tokenBytes: (id) => pool.tokenizer.tokenBytes(id),
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}
