/** Codes of every failure in the system: the gRPC status codes that Causeway uses, lower case. */
export const ERROR_CODES = [
  'cancelled',
  'unknown',
  'invalid_argument',
  'deadline_exceeded',
  'not_found',
  'already_exists',
  'permission_denied',
  'resource_exhausted',
  'failed_precondition',
  'aborted',
  'out_of_range',
  'unimplemented',
  'internal',
  'unavailable',
  'data_loss',
  'unauthenticated',
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** Whether the same call may succeed: never, at the same place later, or at another worker. */
export type Retry = 'never' | 'same' | 'other';

/** Enumerated causes; what a program may branch on. The message is for people. */
export const ERROR_REASONS = [
  // requests
  'bad_json',
  'bad_request',
  'body_too_large',
  'unknown_model',
  'prompt_too_long',
  'empty_prompt',
  'invalid_token',
  'bad_sampling',
  'unsupported_parameter',
  'invalid_api_key',
  'not_found',
  'method_not_allowed',
  'unsupported_media_type',
  'headers_too_large',
  'request_timeout',
  'expectation_failed',
  // capacity and lifecycle
  'queue_full',
  'no_capacity',
  'no_workers',
  'draining',
  'not_ready',
  'deadline',
  'cancelled',
  'worker_lost',
  'dependency_unavailable',
  // files and models
  'file_unreadable',
  'malformed_file',
  'unsupported_format',
  'unknown_architecture',
  'missing_tensor',
  'wrong_shape',
  'runtime',
  'provider_missing',
  'unsupported_platform',
  // KV and its transport
  'fingerprint_mismatch',
  'descriptor_mismatch',
  'payload_too_large',
  'stale_epoch',
  'unknown_transfer',
  'newer_version',
  'malformed_frame',
  'checksum',
  'beyond_credit',
  'transfer_failed',
  'not_committed',
  // experts
  'expert_unavailable',
  'stale_placement',
  // config
  'bad_config',
  'bad_registration',
  // the rest
  'internal',
] as const;
export type ErrorReason = (typeof ERROR_REASONS)[number];
