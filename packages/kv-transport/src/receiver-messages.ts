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
