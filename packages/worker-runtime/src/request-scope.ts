import type { EngineStats } from '@causeway/engine';
import { linkSignals } from '@causeway/lifecycle';
import { type Logger, requestLogger, type TraceSpan } from '@causeway/telemetry';
import type { CallContext } from 'nice-grpc-common';
import type { Worker } from './worker.ts';

/** What one call works under. Disposing it ends its signal's links and, after a cancellation, records how long the work went on. */
export interface RequestScope extends Disposable {
  /** Aborts when the caller cancels, its deadline passes, the worker's drain time is over, or `abort` is called. */
  readonly signal: AbortSignal;
  /** The work is in vain. Nothing happens when it was aborted before. */
  abort(reason: unknown): void;
  readonly log: Logger;
  /** The call in its request's trace. */
  readonly span: TraceSpan;
}

/** Opens the scope of a call. `context.signal` aborts on cancellation and on the gRPC deadline. */
export function requestScope(worker: Worker, context: CallContext, requestId: string, attempt: number): RequestScope {
  const linked = linkSignals(context.signal, worker.forceSignal);
  let cancelled: { at: number; engine: EngineStats } | undefined;
  const onAbort = (): void => {
    cancelled = { at: performance.now(), engine: worker.engine.stats() };
  };
  if (linked.signal.aborted) onAbort();
  else linked.signal.addEventListener('abort', onAbort, { once: true });
  const log = requestLogger(worker.log, requestId, { attempt });
  const span = worker.traces.begin(worker.role, (name) => context.metadata.get(name), {
    'causeway.request_id': requestId,
    'causeway.attempt': attempt,
    'causeway.worker': worker.config.workerId,
    'causeway.chip': worker.config.chip,
  });
  return {
    span,
    signal: linked.signal,
    abort: (reason) => linked.abort(reason),
    log,
    [Symbol.dispose]: () => {
      linked.signal.removeEventListener('abort', onAbort);
      linked[Symbol.dispose]();
      span.set({ 'causeway.cancelled': cancelled !== undefined });
      span.end();
      if (cancelled === undefined) return;
      const seconds = (performance.now() - cancelled.at) / 1000;
      worker.metrics.cancelSeconds.observe(seconds);
      // What the whole worker did meanwhile; nothing, when it worked for nobody else.
      const { prefillTokens, decodeRuns } = worker.engine.stats();
      const meanwhile = {
        prefillTokens: prefillTokens - cancelled.engine.prefillTokens,
        decodeRuns: decodeRuns - cancelled.engine.decodeRuns,
      };
      log.info({ seconds, ...meanwhile }, 'cancelled');
    },
  };
}
