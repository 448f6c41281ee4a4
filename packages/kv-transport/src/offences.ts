/** Counts what is wrong with a transfer's frames: some is bad luck, much is a reason to refuse. */
import { ServiceError } from '@causeway/errors';
import type { TransportCounters } from './types.ts';

/** Malformed frames and frames beyond the credit after which a transfer is refused. */
export const MAX_OFFENCES = 16;
/** Checksum failures after which a transfer is refused: enough for a bad moment, not for a bad link. */
export const MAX_CHECKSUM_FAILURES = 32;

export class Offences {
  readonly #counters: TransportCounters;
  #offences = 0;
  #checksumFailures = 0;

  constructor(counters: TransportCounters) {
    this.#counters = counters;
  }

  /** Notes a bad frame; the error with which to refuse when there were too many. */
  note(reason: 'malformed_frame' | 'beyond_credit', message: string): ServiceError | undefined {
    if (reason === 'malformed_frame') this.#counters.malformedFrames++;
    else this.#counters.beyondCredit++;
    if (++this.#offences < MAX_OFFENCES) return undefined;
    const text = `${this.#offences} bad frames, the last one: ${message}`;
    return new ServiceError(text, { code: 'invalid_argument', reason, retry: 'other' });
  }

  /** Notes a frame that doesn't match a checksum; the error with which to refuse when there were too many. */
  noteChecksum(where: string): ServiceError | undefined {
    this.#counters.checksumFailures++;
    if (++this.#checksumFailures <= MAX_CHECKSUM_FAILURES) return undefined;
    const text = `${this.#checksumFailures} frames did not match their CRC-32C, the last one ${where}: the transfer is refused`;
    return new ServiceError(text, { code: 'data_loss', reason: 'checksum', retry: 'other' });
  }
}
