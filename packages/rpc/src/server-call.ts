import { randomUUID } from 'node:crypto';
import { ServiceError } from '@causeway/errors';
import { deadlineSignal } from '@causeway/lifecycle';
import { type Deadline, type Metadata as GrpcMetadata, ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import type { CallContext, ServerMiddleware } from 'nice-grpc-common';
import { abortableIterable } from './abortable-iterable.ts';
import { toServerError } from './error-status.ts';
import { checkedRequestId, REMAINING_KEY, REQUEST_ID_KEY } from './metadata.ts';

/** What handlers get beside nice-grpc's context. */
export interface RpcCallExtension {
  /** From the caller, or new when it sent none that is usable. */
  requestId: string;
  /** Milliseconds until the caller's deadline, 0 when it passed, Infinity when there is none. Pass it on with the next call. */
  remainingMs(): number;
}

/** A handler's context. `signal` aborts, with a ServiceError as reason, when the caller cancels, its deadline passes or the server is forced down. */
export type RpcContext = CallContext & RpcCallExtension;

/** The few calls of a logger made here; pino's shape. */
export interface RpcLogger {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Counts calls that run, so that a server can wait for its handlers. */
export class ActiveCalls {
  #count = 0;
  readonly #idle = new Set<() => void>();

  get count(): number {
    return this.#count;
  }

  begin(): Disposable {
    this.#count++;
    return {
      [Symbol.dispose]: () => {
        this.#count--;
        if (this.#count > 0) return;
        for (const wake of this.#idle) wake();
        this.#idle.clear();
      },
    };
  }

  /** Resolves when no call runs. */
  idle(): Promise<void> {
    return this.#count === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.add(resolve));
  }
}

/** Puts the milliseconds left until gRPC's own deadline where the middleware finds them; a value from outside is removed. */
export const deadlineInterceptor: ServerInterceptor = (_method, call) =>
  new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMetadata: (metadata: GrpcMetadata, pass) => {
          metadata.remove(REMAINING_KEY);
          const remaining = remainingMs(call.getDeadline());
          if (remaining !== Number.POSITIVE_INFINITY) metadata.set(REMAINING_KEY, String(remaining));
          pass(metadata);
        },
      }),
  });

function remainingMs(deadline: Deadline): number {
  return Math.max(0, Number(deadline) - Date.now());
}

/** Server side of every call: request id, deadline, errors. New calls are refused when `draining` has aborted. */
export function serverMiddleware(
  active: ActiveCalls,
  draining: AbortSignal,
  log: RpcLogger | undefined,
): ServerMiddleware<RpcCallExtension> {
  return async function* (call, context) {
    if (draining.aborted && !call.method.path.startsWith('/grpc.')) throw toServerError(shuttingDown(), context.trailer);
    using _running = active.begin();
    const requestId = checkedRequestId(context.metadata.get(REQUEST_ID_KEY)) ?? randomUUID();
    using deadline = deadlineSignal(
      Number(context.metadata.get(REMAINING_KEY) ?? Number.POSITIVE_INFINITY),
      cancelSignal(context.signal),
    );
    const request = call.requestStream ? abortableIterable(call.request, deadline.signal) : call.request;
    try {
      return yield* call.next(request, {
        ...context,
        signal: deadline.signal,
        requestId,
        remainingMs: () => deadline.remainingMs(),
      });
    } catch (thrown) {
      const error = ServiceError.from(deadline.signal.aborted ? deadline.signal.reason : thrown);
      const fields = { err: error, requestId, method: call.method.path, peer: context.peer };
      if (error.code === 'internal' || error.code === 'unknown') log?.error(fields, 'call failed');
      else log?.debug(fields, 'call ended with an error');
      throw toServerError(error, context.trailer);
    }
  };
}

function shuttingDown(): ServiceError {
  return new ServiceError('this process is shutting down', { code: 'unavailable', reason: 'draining', retry: 'other' });
}

/** nice-grpc aborts with a bare AbortError; handlers see a ServiceError. */
function cancelSignal(signal: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const onAbort = (): void =>
    controller.abort(
      new ServiceError('the caller cancelled or its connection was lost', { code: 'cancelled', reason: 'cancelled' }),
    );
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return controller.signal;
}
