import { ServiceError } from '@causeway/errors';

/** A signal that ends with the scope which holds it: disposing removes listeners and timers. */
export interface LinkedSignal extends Disposable {
  readonly signal: AbortSignal;
  /** Aborts this signal alone; sources are untouched. */
  abort(reason?: unknown): void;
}

/** A signal that aborts, with the same reason, as soon as any source does. */
export function linkSignals(...sources: readonly (AbortSignal | undefined)[]): LinkedSignal {
  const controller = new AbortController();
  const cleanups: (() => void)[] = [];
  const dispose = (): void => {
    for (const cleanup of cleanups.splice(0)) cleanup();
  };
  const abort = (reason?: unknown): void => {
    dispose();
    controller.abort(reason ?? new ServiceError('cancelled', { code: 'cancelled', reason: 'cancelled' }));
  };
  for (const source of sources) {
    if (source === undefined) continue;
    if (source.aborted) {
      abort(source.reason);
      break;
    }
    const onAbort = (): void => abort(source.reason);
    source.addEventListener('abort', onAbort, { once: true });
    cleanups.push(() => source.removeEventListener('abort', onAbort));
  }
  return { signal: controller.signal, abort, [Symbol.dispose]: dispose };
}

/** A deadline on the monotonic clock. */
export interface DeadlineSignal extends LinkedSignal {
  /** Milliseconds left, never below 0; what goes on the wire. */
  remainingMs(): number;
}

/**
 * A signal that aborts after `ms` (with ServiceError `deadline_exceeded`) or when a source does.
 * The timer does not hold the process open. `ms` may be Infinity: no deadline.
 */
export function deadlineSignal(ms: number, ...sources: readonly (AbortSignal | undefined)[]): DeadlineSignal {
  const end = performance.now() + ms;
  const linked = linkSignals(...sources);
  const expire = (): void => {
    const left = end - performance.now();
    if (left > 0) timer = setTimeout(expire, Math.min(left, MAX_TIMER_MS)).unref();
    else linked.abort(new ServiceError(`the deadline of ${ms} ms passed`, { code: 'deadline_exceeded', reason: 'deadline' }));
  };
  let timer: NodeJS.Timeout | undefined;
  if (!linked.signal.aborted && ms !== Number.POSITIVE_INFINITY)
    timer = setTimeout(expire, Math.min(Math.max(ms, 0), MAX_TIMER_MS)).unref();
  return {
    signal: linked.signal,
    abort: (reason) => {
      clearTimeout(timer);
      linked.abort(reason);
    },
    remainingMs: () => Math.max(0, end - performance.now()),
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      linked[Symbol.dispose]();
    },
  };
}

const MAX_TIMER_MS = 2_147_483_647;

/** Waits `ms`; rejects with the signal's reason when it aborts first. Holds the process open while it waits. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Waits for a promise, or rejects with the signal's reason; the promise itself goes on. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    const off = (): void => signal.removeEventListener('abort', onAbort);
    promise.then(
      (value) => {
        off();
        resolve(value);
      },
      (error: unknown) => {
        off();
        reject(error as Error);
      },
    );
  });
}
