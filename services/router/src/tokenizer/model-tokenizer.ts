import { availableParallelism } from 'node:os';
import { fail, ServiceError } from '@causeway/errors';
import { abortable } from '@causeway/lifecycle';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import type { ChatMessage } from '@causeway/openai';
import { Tinypool } from 'tinypool';
import type { TokenizeResult, TokenizeTask } from './thread-messages.ts';
import type { RouterTokenizer } from './tokenizer.ts';

/** Texts up to this length are encoded on the event loop (about 2.5 µs a character): a thread costs more than it saves. */
const INLINE_CHARACTERS = 400;
/** A conversation's template has a cost per message, too. */
const INLINE_MESSAGES = 8;

export interface ModelTokenizer extends RouterTokenizer, AsyncDisposable {
  /** The checkpoint's own name. */
  readonly name: string;
}

/**
 * The tokenizer of a checkpoint, with threads for long prompts.
 * @throws ServiceError of the checkpoint reader, `unsupported_format` when there is no tokenizer.
 */
export async function openModelTokenizer(path: string, threads: number): Promise<ModelTokenizer> {
  using checkpoint = await openCheckpoint(path);
  const source = checkpoint.tokenizerSource;
  if (source === undefined) fail('failed_precondition', 'unsupported_format', `${path} has no tokenizer; the router needs one`);
  const inner = loadTokenizer(source);
  const count = Math.min(threads, availableParallelism());
  const pool = new Tinypool({
    filename: new URL('./tokenizer-thread.ts', import.meta.url).href,
    runtime: 'worker_threads',
    minThreads: count,
    maxThreads: count,
    workerData: source,
  });
  // The task goes on when its request ends: to stop it would cost the thread.
  const run = async (task: TokenizeTask, signal: AbortSignal): Promise<ArrayLike<number>> =>
    unwrap(await abortable(pool.run(task) as Promise<TokenizeResult>, signal));
  await run({ kind: 'text', text: WARM_UP }, new AbortController().signal);
  warmUp(inner);
  return {
    name: checkpoint.name,
    vocabSize: inner.vocabSize,
    encode: (text, signal) =>
      text.length <= INLINE_CHARACTERS ? inline(() => inner.encode(text)) : run({ kind: 'text', text }, signal),
    encodeChat: (messages, signal) =>
      isShort(messages) ? inline(() => inner.encodeChat(messages)) : run({ kind: 'chat', messages }, signal),
    decodeStream: () => inner.decodeStream(),
    [Symbol.asyncDispose]: () => pool.destroy(),
  };
}

const WARM_UP = 'The quick brown fox jumps over 13 lazy dogs; déjà vu 😀.\n';

/** The first texts are slow: expressions are compiled then. Better at start than in a request. */
function warmUp(inner: ReturnType<typeof loadTokenizer>): void {
  const stream = inner.decodeStream();
  for (const id of inner.encode(WARM_UP)) stream.push(id);
  if (inner.hasChatTemplate) inner.encodeChat([{ role: 'user', content: WARM_UP }]);
}

function isShort(messages: readonly ChatMessage[]): boolean {
  return (
    messages.length <= INLINE_MESSAGES && messages.reduce((sum, message) => sum + message.content.length, 0) <= INLINE_CHARACTERS
  );
}

/** A throw becomes a rejection, as it does from a thread. */
async function inline(encode: () => readonly number[]): Promise<readonly number[]> {
  return encode();
}

function unwrap(result: TokenizeResult): Uint32Array {
  if (result.kind === 'ids') return result.ids;
  const { error } = result;
  const { code, reason, retry } = ServiceError.fromWire(error);
  throw new ServiceError(error.message, { code, reason, retry, ...(error.field === undefined ? {} : { field: error.field }) });
}
