export { ERROR_CODES, ERROR_REASONS } from './codes.ts';
export type { ErrorCode, ErrorReason, Retry } from './codes.ts';
export { fail, ServiceError } from './service-error.ts';
export type { ServiceErrorOptions } from './service-error.ts';
export { grpcStatus, httpStatus, openaiErrorBody, STATUS_MAP } from './status-map.ts';
export type { OpenaiErrorBody } from './status-map.ts';
