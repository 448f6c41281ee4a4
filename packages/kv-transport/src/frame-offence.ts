/** What is wrong with a frame whose header is well formed and names a transfer that receives. */
import type { CreditAccount } from './credit.ts';
import type { FrameHeader } from './frame.ts';
import type { PartLocation } from './part-table.ts';
import type { Ticket } from './types.ts';

/** `part`: what the object table has under the header's indices. */
export function frameOffence(
  header: FrameHeader,
  part: PartLocation | undefined,
  ticket: Ticket,
  credit: CreditAccount,
): { reason: 'malformed_frame' | 'beyond_credit'; message: string } | undefined {
  const { object, rawBytes, bodyBytes, codec } = header;
  const name = `part ${object}/${header.part}`;
  if (part === undefined || rawBytes !== part.length) {
    return { reason: 'malformed_frame', message: `${name} of ${rawBytes} bytes is not in the object table` };
  }
  if (bodyBytes > rawBytes || !ticket.acceptedCodecs.includes(codec)) {
    return { reason: 'malformed_frame', message: `codec ${codec}, ${bodyBytes} body bytes for ${rawBytes} raw bytes` };
  }
  if (part.end > credit.upTo) {
    return { reason: 'beyond_credit', message: `${name} ends at ${part.end}; credit was given up to ${credit.upTo}` };
  }
  return undefined;
}
