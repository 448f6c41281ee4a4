import { ServiceError } from '@causeway/errors';

/** The other end of a transfer was not heard. It says `transfer_failed`: a lost worker is for those to name who talk to it. */
export function silence(role: 'sending' | 'receiving', workerId: string | undefined, silenceMs: number): ServiceError {
  return new ServiceError(`nothing was heard of the ${role} worker ${workerId ?? ''} for ${silenceMs} ms`, {
    code: 'unavailable',
    reason: 'transfer_failed',
    retry: 'other',
  });
}
