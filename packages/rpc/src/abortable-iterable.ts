import { setImmediate as nextTurn } from 'node:timers/promises';
import { abortable } from '@causeway/lifecycle';

/**
 * The source's items until the signal aborts, then its reason is thrown at once; the source is told to end, never waited for.
 * A cancelled gRPC call ends its request stream just before it reports the cancellation: the end counts only if no abort follows it.
 */
export async function* abortableIterable<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const result = await abortable(iterator.next(), signal);
      if (result.done === true) {
        ended = true;
        await nextTurn();
        signal.throwIfAborted();
        return;
      }
      yield result.value;
    }
  } finally {
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}
