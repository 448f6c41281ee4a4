import { httpStatus, openaiErrorBody, ServiceError } from '@causeway/errors';

/** An error as HTTP sends it. */
export interface HttpError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ReturnType<typeof openaiErrorBody>;
}

/** Status, headers and OpenAI's body of an error. 429 and 503 always say when to come back. */
export function httpError(error: ServiceError): HttpError {
  const status = httpStatus(error);
  const retryAfter = error.retryAfterSeconds ?? (status === 429 || status === 503 ? 1 : undefined);
  return {
    status,
    headers: retryAfter === undefined ? {} : { 'retry-after': String(Math.ceil(retryAfter)) },
    body: openaiErrorBody(error),
  };
}

/** What fastify refuses before a handler runs, by its error code. */
export function fromFastifyError(error: unknown, maxBodyBytes: number): HttpError {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return httpError(
        new ServiceError(`the body is larger than the limit of ${maxBodyBytes} bytes`, {
          code: 'invalid_argument',
          reason: 'body_too_large',
        }),
      );
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return { ...badRequest('the body must be sent with content-type: application/json'), status: 415 };
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return badRequest('the body is not as long as its content-length says');
    default:
      if (!(error instanceof ServiceError) && typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
        return { ...badRequest('the request is malformed'), status: statusCode };
      }
      return httpError(ServiceError.from(error));
  }
}

function badRequest(message: string): HttpError {
  return httpError(new ServiceError(message, { code: 'invalid_argument', reason: 'bad_request' }));
}

/** @throws ServiceError `bad_json` saying where the text stops being JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    const why = text.trim() === '' ? 'it is empty' : (cause as Error).message.slice(0, 200);
    throw new ServiceError(`the body is not JSON: ${why}`, { code: 'invalid_argument', reason: 'bad_json', cause });
  }
}
