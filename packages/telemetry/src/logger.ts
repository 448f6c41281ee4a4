import { ServiceError } from '@causeway/errors';
import { type DestinationStream, type Logger, pino, stdSerializers, stdTimeFunctions } from 'pino';

export type { Logger } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LoggerOptions {
  /** Which process writes: router, prefill, decode, ... */
  service: string;
  level: LogLevel;
  /** Fields of every line, such as `workerId`. */
  fields?: Record<string, unknown>;
  /** Default: standard output. */
  destination?: DestinationStream;
}

/** Makes a process's logger: one JSON object per line, `level` as a word, ISO time, `err` with code, reason and causes. */
export function createLogger(options: LoggerOptions): Logger {
  return pino(
    {
      level: options.level,
      base: { service: options.service, pid: process.pid, ...options.fields },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
    },
    options.destination ?? pino.destination({ dest: 1, sync: true }),
  );
}

/** A logger whose lines carry the request's id. */
export function requestLogger(logger: Logger, requestId: string, fields: Record<string, unknown> = {}): Logger {
  return logger.child({ requestId, ...fields });
}

/** An error as a log field: a ServiceError with what a program may branch on and its cause, any other with its stack. */
export function serializeError(error: unknown): unknown {
  if (error instanceof ServiceError) {
    return {
      type: error.name,
      code: error.code,
      reason: error.reason,
      retry: error.retry,
      message: error.message,
      ...(error.field === undefined ? {} : { field: error.field }),
      ...(error.cause === undefined ? {} : { cause: serializeError(error.cause) }),
      ...(error.code === 'internal' ? { stack: error.stack } : {}),
    };
  }
  return error instanceof Error ? stdSerializers.err(error) : { message: String(error) };
}
