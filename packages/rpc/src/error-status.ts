import { ServiceError, STATUS_MAP, type ErrorCode, type ErrorReason, type Retry } from '@causeway/errors';
import { ClientError, type Metadata, ServerError } from 'nice-grpc-common';
import { FIELD_KEY, REASON_KEY, RETRY_AFTER_KEY, RETRY_KEY } from './metadata.ts';

/** Longest message that crosses the wire, in UTF-16 units. */
const MESSAGE_LIMIT = 2048;
/** The same, percent-encoded as gRPC sends it: peers take metadata blocks of 8 KiB. */
const ENCODED_LIMIT = 6144;

const CODE_BY_STATUS = new Map<number, ErrorCode>(Object.entries(STATUS_MAP).map(([code, row]) => [row.grpc, code as ErrorCode]));

/**
 * Turns anything thrown by a handler into what gRPC sends: status and message, with reason, retry, field and retry-after in the
 * trailer. An unknown error becomes `internal` with a message that says nothing; its cause stays here.
 */
export function toServerError(thrown: unknown, trailer: Metadata): ServerError {
  if (thrown instanceof ServerError) return new ServerError(thrown.code, sendable(thrown.details));
  const error = ServiceError.from(thrown);
  trailer.set(REASON_KEY, error.reason);
  trailer.set(RETRY_KEY, error.retry);
  if (error.field !== undefined) trailer.set(FIELD_KEY, encodeURIComponent(error.field.slice(0, 256).toWellFormed()));
  if (error.retryAfterSeconds !== undefined) trailer.set(RETRY_AFTER_KEY, String(error.retryAfterSeconds));
  return new ServerError(STATUS_MAP[error.code].grpc, sendable(error.message));
}

/**
 * The message as it can be sent: well-formed, because grpc-js percent-encodes it and half a surrogate pair (which a client may have
 * sent, or cutting have made) throws there, so that the call never ends; and short enough for a peer's metadata limit.
 */
function sendable(message: string): string {
  let text = message.slice(0, MESSAGE_LIMIT).toWellFormed();
  while (encodeURI(text).length > ENCODED_LIMIT) text = text.slice(0, Math.floor(text.length / 2)).toWellFormed();
  return text;
}

/**
 * Turns what a call failed with into a ServiceError. With our trailer it is the server's own error; without, the transport's:
 * a lost or unreachable peer is `unavailable/worker_lost`, retry `other`.
 */
export function fromClientError(thrown: unknown, trailer: Metadata | undefined, address: string): ServiceError {
  if (!(thrown instanceof ClientError)) return ServiceError.from(thrown);
  const reason = trailer?.get(REASON_KEY);
  const code = CODE_BY_STATUS.get(thrown.code) ?? 'unknown';
  if (reason === undefined) return transportError(thrown, code, address);
  const wire = ServiceError.fromWire({ code, reason, retry: trailer?.get(RETRY_KEY) ?? 'never', message: thrown.details });
  const field = decodeField(trailer?.get(FIELD_KEY));
  const retryAfterSeconds = Number(trailer?.get(RETRY_AFTER_KEY) ?? Number.NaN);
  return new ServiceError(wire.message, {
    code: wire.code,
    reason: wire.reason,
    retry: wire.retry,
    ...(field === undefined ? {} : { field }),
    ...(Number.isFinite(retryAfterSeconds) && retryAfterSeconds >= 0 ? { retryAfterSeconds } : {}),
    cause: thrown,
  });
}

function decodeField(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  try {
    return decodeURIComponent(value);
  } catch {
    return undefined;
  }
}

/** What gRPC itself reports, with no answer from a Causeway handler. */
function transportError(error: ClientError, code: ErrorCode, address: string): ServiceError {
  const make = (kind: ErrorCode, reason: ErrorReason, retry: Retry, message: string): ServiceError =>
    new ServiceError(`${message}: ${error.details}`, { code: kind, reason, retry, cause: error });
  // An HTTP/2 stream that the peer's process took down with it shows as INTERNAL; a forced shutdown as CANCELLED.
  const lost =
    code === 'unavailable' || code === 'cancelled' || (code === 'internal' && /RST_STREAM|GOAWAY|session/i.test(error.details));
  if (lost) return make('unavailable', 'worker_lost', 'other', `the connection to ${address} failed`);
  switch (code) {
    case 'deadline_exceeded':
      return make(code, 'deadline', 'never', `${address} did not answer within the deadline`);
    case 'resource_exhausted':
      return make(code, 'payload_too_large', 'never', `a message to or from ${address} is over its size limit`);
    case 'unimplemented':
      return make(code, 'internal', 'other', `${address} does not serve ${error.path}`);
    default:
      return make(code, 'internal', 'never', `${error.path} at ${address} failed`);
  }
}
