import { httpStatus, openaiErrorBody, type OpenaiErrorBody, ServiceError } from '@causeway/errors';

/** An error as HTTP sends it. */
export interface HttpError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: OpenaiErrorBody;
}

/** Status, headers and OpenAI's body of an error. 429 and 503 always say when to come back. */
export function httpError(error: ServiceError): HttpError {
  const status = httpStatus(error);
  const retryAfter = error.retryAfterSeconds ?? (status === 429 || status === 503 ? 1 : undefined);
  return {
    status,
    headers: {
      ...(retryAfter === undefined ? {} : { 'retry-after': String(Math.ceil(retryAfter)) }),
      ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
    },
    body: openaiErrorBody(error),
  };
}

/** What fastify refuses before a handler runs, by its error code. */
export function fromFastifyError(error: unknown, maxBodyBytes: number): ServiceError {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return refused('body_too_large', `the body is larger than the limit of ${maxBodyBytes} bytes`);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return refused('unsupported_media_type', 'the body must be sent with content-type: application/json');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return refused('bad_request', 'the body is not as long as its content-length says');
    case 'FST_ERR_BAD_URL':
      return refused('bad_request', 'the path is not a URL: what follows a % must be two hexadecimal digits of UTF-8');
    default:
      if (!(error instanceof ServiceError) && typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
        return refused('bad_request', 'the request is malformed');
      }
      return ServiceError.from(error);
  }
}

/** What Node's HTTP parser refuses, by its error code. */
export function fromParserError(error: Error): ServiceError {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'HPE_HEADER_OVERFLOW':
      return refused('headers_too_large', 'the headers are larger than this server takes');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ServiceError('the request took too long to arrive', { code: 'deadline_exceeded', reason: 'request_timeout' });
    case 'HPE_INVALID_METHOD':
      return refused('bad_request', 'the request has an unknown method');
    default:
      return refused('bad_request', 'the request is not HTTP');
  }
}

/** A refusal that is the client's fault. */
export function refused(reason: ServiceError['reason'], message: string): ServiceError {
  return new ServiceError(message, { code: 'invalid_argument', reason });
}
