import type { ErrorCode, ErrorReason } from './codes.ts';
import type { ServiceError } from './service-error.ts';

/** One row per code: gRPC status number, HTTP status, OpenAI error `type`. */
export const STATUS_MAP: Readonly<Record<ErrorCode, { grpc: number; http: number; openaiType: string }>> = {
  cancelled: { grpc: 1, http: 499, openaiType: 'request_cancelled' },
  unknown: { grpc: 2, http: 500, openaiType: 'server_error' },
  invalid_argument: { grpc: 3, http: 400, openaiType: 'invalid_request_error' },
  deadline_exceeded: { grpc: 4, http: 504, openaiType: 'timeout_error' },
  not_found: { grpc: 5, http: 404, openaiType: 'invalid_request_error' },
  already_exists: { grpc: 6, http: 409, openaiType: 'invalid_request_error' },
  permission_denied: { grpc: 7, http: 403, openaiType: 'permission_error' },
  resource_exhausted: { grpc: 8, http: 429, openaiType: 'rate_limit_error' },
  failed_precondition: { grpc: 9, http: 400, openaiType: 'invalid_request_error' },
  aborted: { grpc: 10, http: 409, openaiType: 'server_error' },
  out_of_range: { grpc: 11, http: 400, openaiType: 'invalid_request_error' },
  unimplemented: { grpc: 12, http: 501, openaiType: 'invalid_request_error' },
  internal: { grpc: 13, http: 500, openaiType: 'server_error' },
  unavailable: { grpc: 14, http: 503, openaiType: 'server_error' },
  data_loss: { grpc: 15, http: 500, openaiType: 'server_error' },
  unauthenticated: { grpc: 16, http: 401, openaiType: 'authentication_error' },
};

/** Reasons whose HTTP status is more exact than their code's. */
const HTTP_BY_REASON: Partial<Record<ErrorReason, number>> = {
  method_not_allowed: 405,
  request_timeout: 408,
  body_too_large: 413,
  unsupported_media_type: 415,
  expectation_failed: 417,
  headers_too_large: 431,
};

/** OpenAI's `code`, for clients that branch on it. Reasons that OpenAI has no word for give null, as its own bodies do. */
const OPENAI_CODE_BY_REASON: Partial<Record<ErrorReason, string>> = {
  invalid_api_key: 'invalid_api_key',
  unknown_model: 'model_not_found',
  prompt_too_long: 'context_length_exceeded',
  empty_prompt: 'invalid_value',
  invalid_token: 'invalid_value',
  bad_sampling: 'invalid_value',
  unsupported_parameter: 'unsupported_parameter',
  method_not_allowed: 'method_not_supported',
  queue_full: 'rate_limit_exceeded',
  no_capacity: 'rate_limit_exceeded',
  internal: 'server_error',
};

/** The same for codes whose reason says nothing to a client. */
const OPENAI_CODE_BY_CODE: Partial<Record<ErrorCode, string>> = { unauthenticated: 'invalid_api_key' };

/** HTTP status of an error. */
export function httpStatus(error: ServiceError): number {
  return HTTP_BY_REASON[error.reason] ?? STATUS_MAP[error.code].http;
}

/** gRPC status number of an error. */
export function grpcStatus(error: ServiceError): number {
  return STATUS_MAP[error.code].grpc;
}

export interface OpenaiErrorBody {
  error: {
    message: string;
    type: string;
    /** Field at fault. */
    param: string | null;
    /** OpenAI's code. */
    code: string | null;
    /** Ours: every failure has one. */
    reason: ErrorReason;
  };
}

/** Body that OpenAI's clients understand, and our reason beside their code. */
export function openaiErrorBody(error: ServiceError): OpenaiErrorBody {
  return {
    error: {
      message: error.message,
      type: STATUS_MAP[error.code].openaiType,
      param: error.field ?? null,
      code: OPENAI_CODE_BY_REASON[error.reason] ?? OPENAI_CODE_BY_CODE[error.code] ?? null,
      reason: error.reason,
    },
  };
}
