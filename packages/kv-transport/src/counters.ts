import type { TransportCounters } from './types.ts';

/** All counters at zero. */
export function newCounters(): TransportCounters {
  return {
    rawBytesSent: 0,
    rawBytesReceived: 0,
    frameBytesSent: 0,
    frameBytesReceived: 0,
    wireBytesSent: 0,
    framesSent: 0,
    framesReceived: 0,
    partsResent: 0,
    checksumFailures: 0,
    staleFrames: 0,
    duplicateFrames: 0,
    lateFrames: 0,
    unknownTransfers: 0,
    malformedFrames: 0,
    malformedControls: 0,
    beyondCredit: 0,
    transfersCommitted: 0,
    transfersFailed: 0,
  };
}
