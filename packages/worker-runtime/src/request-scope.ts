import { linkSignals } from '@causeway/lifecycle';
import { type Logger, requestLogger } from '@causeway/telemetry';
import type { CallContext } from 'nice-grpc-common';
import type { Worker } from './worker.ts';

/** What one call works under. Disposing it ends its signal's links and, after a cancellation, records how long the work went on. */
export interface RequestScope extends Disposable {
  /** Aborts when the caller cancels, its deadline passes, or the worker's drain time is over. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** Opens the scope of a call. `context.signal` aborts on cancellation and on the gRPC deadline. */
export function requestScope(worker: Worker, context: CallContext, requestId: string, attempt: number): RequestScope {
  const linked = linkSignals(context.signal, worker.forceSignal);
  let cancelledAt: number | undefined;
  const onAbort = (): void => {
    cancelledAt = performance.now();
  };
  if (linked.signal.aborted) onAbort();
  else linked.signal.addEventListener('abort', onAbort, { once: true });
  const log = requestLogger(worker.log, requestId, { attempt });
  return {
    signal: linked.signal,
    log,
    [Symbol.dispose]: () => {
      linked.signal.removeEventListener('abort', onAbort);
      linked[Symbol.dispose]();
      if (cancelledAt === undefined) return;
      const seconds = (performance.now() - cancelledAt) / 1000;
      worker.metrics.cancelSeconds.observe(seconds);
      log.info({ seconds }, 'cancelled');
    },
  };
}
