import { ServiceError } from '@causeway/errors';
import { deadlineSignal, sleep } from './signals.ts';

export interface BackoffOptions {
  /** First step, default 50 ms. */
  minMs?: number;
  /** Largest step, default 5000 ms. */
  maxMs?: number;
  /** Growth per step, default 2. */
  factor?: number;
  /** Uniform in [0, 1), default Math.random. */
  random?: () => number;
}

/** Endless delays in ms: exponential, with equal jitter (between half of the step and the whole of it), so that peers spread out. */
export function* backoff(options: BackoffOptions = {}): Generator<number, never, void> {
  const { minMs = 50, maxMs = 5000, factor = 2, random = Math.random } = options;
  let step = minMs;
  for (;;) {
    yield step / 2 + (random() * step) / 2;
    step = Math.min(maxMs, step * factor);
  }
}

export interface DependencyOptions<T> {
  /** Who is waited for, for the log and the error: `NATS at nats://127.0.0.1:4222`. */
  what: string;
  attempt: (signal: AbortSignal) => Promise<T>;
  deadlineMs: number;
  signal?: AbortSignal;
  backoff?: BackoffOptions;
  /** Called after each failure; log it so that an operator sees what is missing. */
  onRetry?: (message: string, error: unknown) => void;
}

/**
 * Tries until the attempt succeeds; used for what a process needs at start.
 * Throws ServiceError `unavailable/dependency_unavailable` when the deadline passes, with the last cause; the signal's reason when it aborts;
 * an attempt's own `bad_config` at once.
 */
export async function awaitDependency<T>(options: DependencyOptions<T>): Promise<T> {
  using deadline = deadlineSignal(options.deadlineMs, options.signal);
  let last: unknown;
  for (const delay of backoff({ maxMs: 1000, ...options.backoff })) {
    try {
      return await options.attempt(deadline.signal);
    } catch (error) {
      // waiting mends no configuration
      if (error instanceof ServiceError && error.reason === 'bad_config') throw error;
      last = error;
    }
    if (!deadline.signal.aborted) {
      options.onRetry?.(`waiting for ${options.what}: ${describe(last)}`, last);
      await sleep(delay, deadline.signal).catch(() => undefined);
    }
    options.signal?.throwIfAborted();
    if (deadline.signal.aborted) {
      throw new ServiceError(
        `${options.what} did not answer within ${options.deadlineMs} ms: ${describe(last)}; start it, or correct its address`,
        { code: 'unavailable', reason: 'dependency_unavailable', retry: 'same', cause: last },
      );
    }
  }
  throw new Error('unreachable: backoff never ends');
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message !== '' ? error.message : ((error as NodeJS.ErrnoException).code ?? error.name);
}
