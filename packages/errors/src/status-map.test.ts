import { describe, expect, it } from 'vitest';
import { ERROR_REASONS, type ErrorCode, type ErrorReason, httpStatus, openaiErrorBody, ServiceError } from './index.ts';

function bodyOf(code: ErrorCode, reason: ErrorReason): ReturnType<typeof openaiErrorBody>['error'] {
  return openaiErrorBody(new ServiceError('why', { code, reason, field: 'f' })).error;
}

describe('openaiErrorBody', () => {
  it.each([
    ['not_found', 'unknown_model', 'model_not_found', 'invalid_request_error'],
    ['invalid_argument', 'prompt_too_long', 'context_length_exceeded', 'invalid_request_error'],
    ['invalid_argument', 'unsupported_parameter', 'unsupported_parameter', 'invalid_request_error'],
    ['invalid_argument', 'bad_sampling', 'invalid_value', 'invalid_request_error'],
    ['invalid_argument', 'bad_json', null, 'invalid_request_error'],
    ['unimplemented', 'method_not_allowed', 'method_not_supported', 'invalid_request_error'],
    ['resource_exhausted', 'queue_full', 'rate_limit_exceeded', 'rate_limit_error'],
    ['unauthenticated', 'bad_request', 'invalid_api_key', 'authentication_error'],
    ['internal', 'internal', 'server_error', 'server_error'],
  ] as const)('%s/%s carries the code %s that clients branch on', (code, reason, openaiCode, type) => {
    expect(bodyOf(code, reason)).toEqual({ message: 'why', type, param: 'f', code: openaiCode, reason });
  });

  it('keeps our reason whatever it is', () => {
    for (const reason of ERROR_REASONS) expect(bodyOf('unavailable', reason).reason).toBe(reason);
  });
});

describe('httpStatus', () => {
  it.each([
    ['unimplemented', 'method_not_allowed', 405],
    ['invalid_argument', 'body_too_large', 413],
    ['invalid_argument', 'unsupported_media_type', 415],
    ['invalid_argument', 'expectation_failed', 417],
    ['invalid_argument', 'headers_too_large', 431],
    ['unimplemented', 'unsupported_format', 501],
  ] as const)('of %s/%s is %i', (code, reason, status) => {
    expect(httpStatus(new ServiceError('why', { code, reason }))).toBe(status);
  });
});
