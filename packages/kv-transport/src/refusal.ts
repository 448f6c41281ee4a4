/** Refusals of a receiver as errors of the sender. */
import { ERROR_CODES, ServiceError } from '@causeway/errors';
import type { kvV1 } from '@causeway/proto';

/** What a Refused message means to the sender: its code and reason when known, and always another worker may do. */
export function refusalError(refused: kvV1.Refused, workerId: string): ServiceError {
  const { code, reason } = refused;
  const known = (ERROR_CODES as readonly string[]).includes(code);
  const error = ServiceError.fromWire({ code: known ? code : 'aborted', reason, retry: 'other', message: '' });
  const message = `worker ${workerId} refused the KV transfer: ${refused.message.slice(0, 1000)}`;
  return new ServiceError(message, {
    code: error.code,
    reason: error.reason === 'internal' ? 'transfer_failed' : error.reason,
    retry: 'other',
  });
}
