import { sleep } from '@causeway/lifecycle';

export interface EventuallyOptions {
  /** Default 10000 ms. */
  timeoutMs?: number;
  /** Default 20 ms. */
  intervalMs?: number;
  /** Said when the time is over. */
  what?: string;
}

/**
 * Calls `condition` until it gives something else than false, undefined or null (a throw counts as "not yet"); gives that value.
 * Throws when the time is over, with the last error or value.
 */
export async function eventually<T>(
  condition: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<Exclude<T, false | undefined | null>> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const end = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== false && value !== undefined && value !== null) return value as Exclude<T, false | undefined | null>;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= end) {
      const detail = last instanceof Error ? last.message : `last value ${String(last)}`;
      throw new Error(`${options.what ?? 'the condition'} did not come true within ${timeoutMs} ms: ${detail}`, { cause: last });
    }
    await sleep(options.intervalMs ?? 20);
  }
}
