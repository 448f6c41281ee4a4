import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * The source's items until the signal aborts, then its reason is thrown at once; the source is told to end, never waited for.
 * A cancelled gRPC call ends its request stream just before it reports the cancellation: the end counts only if no abort follows it.
 */
export async function* abortableIterable<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  let giveUp: ((reason: unknown) => void) | undefined;
  // One listener for all items: streams have many.
  const onAbort = (): void => giveUp?.(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      signal.throwIfAborted();
      const result = await new Promise<IteratorResult<T>>((resolve, reject) => {
        giveUp = reject;
        iterator.next().then(resolve, reject);
      });
      if (result.done === true) {
        ended = true;
        await nextTurn();
        signal.throwIfAborted();
        return;
      }
      yield result.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}
