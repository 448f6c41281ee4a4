import { AsyncQueue } from './async-queue.ts';

export interface MergeOptions {
  /** Sources that are read at a time; default all. */
  readonly atOnce?: number;
  /** Makes sources that still run end: called when the merged stream is left early or a source fails. */
  readonly stop: () => void;
}

/**
 * The items of several sources as they come, in order within each source. Sources are read no faster than the merged stream, but
 * for one item of each. The first failure ends it; when it ends, nothing of the sources runs any more.
 */
export async function* merge<T>(
  sources: readonly AsyncIterable<T>[],
  { atOnce = sources.length, stop }: MergeOptions,
): AsyncGenerator<T, void> {
  const items = new AsyncQueue<T>(1);
  const waiting = sources.values();
  // Each reader takes sources from the one iterator until none is left.
  const read = async (): Promise<void> => {
    for (const source of { [Symbol.iterator]: () => waiting }) {
      for await (const item of source) if (!(await items.push(item))) return;
    }
  };
  const readers = Array.from({ length: Math.min(atOnce, sources.length) }, read);
  const ended = Promise.all(readers).then(
    () => items.close(),
    (error: unknown) => items.fail(error as Error),
  );
  let whole = false;
  try {
    yield* items;
    whole = true;
  } finally {
    items.close();
    if (!whole) stop();
    await Promise.allSettled(readers);
    await ended;
  }
}
