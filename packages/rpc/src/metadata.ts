/** Names of the metadata that Causeway's calls carry. */

/** Request: id of the request that this call serves, the same in every process. */
export const REQUEST_ID_KEY = 'x-causeway-request-id';
/** Trailer: `reason` of a ServiceError. */
export const REASON_KEY = 'x-causeway-error-reason';
/** Trailer: `retry` of a ServiceError. */
export const RETRY_KEY = 'x-causeway-error-retry';
/** Trailer: `field` of a ServiceError, percent-encoded. */
export const FIELD_KEY = 'x-causeway-error-field';
/** Trailer: `retryAfterSeconds` of a ServiceError. */
export const RETRY_AFTER_KEY = 'x-causeway-error-retry-after';
/** Set by the server on itself from gRPC's own deadline, never believed from outside: milliseconds left when the call arrived. */
export const REMAINING_KEY = 'x-causeway-internal-remaining-ms';

const REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

/** The id if it is 1-128 letters, digits and `._:-`, so that it can stand in a log line and a subject; undefined otherwise. */
export function checkedRequestId(value: unknown): string | undefined {
  return typeof value === 'string' && REQUEST_ID.test(value) ? value : undefined;
}
