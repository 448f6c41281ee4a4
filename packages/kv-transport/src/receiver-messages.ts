/** What receivers say, built from their state. */
import type { kvV1 } from '@causeway/proto';
import { micros } from './arrival-log.ts';
import type { CodecTally } from './codec-tally.ts';
import type { ReceiverMessage } from './control.ts';
import type { CommittedKv } from './types.ts';

/** How far parts may go, and how many bytes are in place, all numbers raw; when frames and Open arrived. */
export function creditMessage(
  bytes: { upTo: number; received: number; contiguous: number },
  arrivals: kvV1.Arrival[],
  openedAt: number,
): ReceiverMessage {
  const { upTo, received, contiguous } = bytes;
  const value = { upToBytes: BigInt(upTo), receivedBytes: BigInt(received), contiguousBytes: BigInt(contiguous) };
  return { $case: 'credit', value: { ...value, arrivals, openedUs: micros(openedAt) } };
}

/** Everything is in place; with what it cost to decode. */
export function committedMessage({ rawBytes, receivedBytes }: CommittedKv, tally: CodecTally): kvV1.Committed {
  return { rawBytes: BigInt(rawBytes), receivedBytes: BigInt(receivedBytes), decodeCosts: tally.toProto() };
}

/** What a receiver's worker is told of a transfer that was committed just now. */
export function committedKv(
  { firstToken, firstTokenDetail }: kvV1.Manifest,
  o: Pick<CommittedKv, 'rawBytes' | 'receivedBytes' | 'codec' | 'representation' | 'convertMs'> & {
    /** When the first frame came. */
    firstFrame: number | undefined;
    sender: { workerId: string; chip: string } | undefined;
  },
): CommittedKv {
  const now = performance.now();
  return {
    rawBytes: o.rawBytes,
    receivedBytes: o.receivedBytes,
    codec: o.codec,
    transferMs: now - (o.firstFrame ?? now),
    ...(firstToken === undefined ? {} : { firstToken }),
    ...(firstTokenDetail === undefined ? {} : { firstTokenDetail }),
    senderWorker: o.sender?.workerId ?? '',
    senderChip: o.sender?.chip ?? '',
    representation: o.representation,
    convertMs: o.convertMs,
  };
}
