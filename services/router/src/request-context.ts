import { deadlineSignal } from '@causeway/lifecycle';
import { type Logger, requestLogger, type TraceSpan } from '@causeway/telemetry';

/** What travels with a request through every step. */
export interface RequestContext extends Disposable {
  readonly id: string;
  /** Aborts when the client goes away, the deadline passes or the drain time is over; its reason is a ServiceError. */
  readonly signal: AbortSignal;
  /** performance.now() at arrival. */
  readonly startedAt: number;
  /** Milliseconds until the deadline. */
  remainingMs(): number;
  readonly log: Logger;
  /** The whole request in its trace. */
  readonly span: TraceSpan;
}

/** Opens a request's context; dispose it when the request has ended. */
export function openRequest(options: {
  id: string;
  log: Logger;
  timeoutMs: number;
  signals: readonly AbortSignal[];
  span: TraceSpan;
}): RequestContext {
  const deadline = deadlineSignal(options.timeoutMs, ...options.signals);
  return {
    id: options.id,
    signal: deadline.signal,
    startedAt: performance.now(),
    remainingMs: () => deadline.remainingMs(),
    log: requestLogger(options.log, options.id),
    span: options.span,
    [Symbol.dispose]: () => {
      deadline[Symbol.dispose]();
      options.span.end();
    },
  };
}
