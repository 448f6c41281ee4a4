import { ERROR_CODES, ERROR_REASONS, type ErrorCode, type ErrorReason, type Retry } from './codes.ts';

export interface ServiceErrorOptions {
  code: ErrorCode;
  reason: ErrorReason;
  /** Default `never`. */
  retry?: Retry;
  /** Request field at fault, in OpenAI's notation (`messages[0].content`). */
  field?: string;
  /** Seconds after which a retry makes sense. */
  retryAfterSeconds?: number;
  /** For the log only; never crosses the wire. */
  cause?: unknown;
}

/** The one error type. Its message is written for the person who must act on it: what was wrong, where, what to do. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError';
  readonly code: ErrorCode;
  readonly reason: ErrorReason;
  readonly retry: Retry;
  readonly field: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(message: string, options: ServiceErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code;
    this.reason = options.reason;
    this.retry = options.retry ?? 'never';
    this.field = options.field;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  /** Normalises anything caught at a boundary. An unknown error becomes `internal`; its text stays in `cause`. */
  static from(value: unknown): ServiceError {
    if (value instanceof ServiceError) return value;
    if (value instanceof Error && value.name === 'AbortError') {
      return new ServiceError('the request was cancelled', { code: 'cancelled', reason: 'cancelled', cause: value });
    }
    if (value instanceof Error && value.name === 'TimeoutError') {
      return new ServiceError('the deadline passed', { code: 'deadline_exceeded', reason: 'deadline', cause: value });
    }
    return new ServiceError('internal error; the log has the cause under this request id', {
      code: 'internal',
      reason: 'internal',
      cause: value,
    });
  }

  /** Rebuilds an error that came over the wire; unknown names become `internal`. */
  static fromWire(wire: { code: string; reason: string; retry: string; message: string }): ServiceError {
    return new ServiceError(wire.message, {
      code: (ERROR_CODES as readonly string[]).includes(wire.code) ? (wire.code as ErrorCode) : 'internal',
      reason: (ERROR_REASONS as readonly string[]).includes(wire.reason) ? (wire.reason as ErrorReason) : 'internal',
      retry: wire.retry === 'same' || wire.retry === 'other' ? wire.retry : 'never',
    });
  }
}

/** Shorthand for `new ServiceError`, for the common positional case. */
export function fail(code: ErrorCode, reason: ErrorReason, message: string, more: Partial<ServiceErrorOptions> = {}): never {
  throw new ServiceError(message, { ...more, code, reason });
}
