import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { fail } from '@causeway/errors';
import type { RouterTokenizer } from './tokenizer.ts';

/** The tokenizer of a checkpoint, and the checkpoint's own name. */
export async function openModelTokenizer(path: string): Promise<{ name: string; tokenizer: RouterTokenizer }> {
  using checkpoint = await openCheckpoint(path);
  if (checkpoint.tokenizerSource === undefined) {
    fail('failed_precondition', 'unsupported_format', `${path} has no tokenizer; the router needs one`);
  }
  const inner = loadTokenizer(checkpoint.tokenizerSource);
  return {
    name: checkpoint.name,
    tokenizer: {
      vocabSize: inner.vocabSize,
      encode: (text) => Promise.resolve(inner.encode(text)),
      encodeChat: (messages) => Promise.resolve(inner.encodeChat(messages)),
      decodeStream: () => inner.decodeStream(),
    },
  };
}
