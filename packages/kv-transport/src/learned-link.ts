/** What a receiver's messages tell its sender of the link. */
import type { CodecPolicy } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import type { LinkRate } from './link-rate.ts';
import { frameBytes, type OutboundFrame } from './part-encoder.ts';
import { codecFromProto } from './wire-types.ts';

/** How long Open, which left at `openedAt`, and frames took. */
export function learnFromCredit(
  rate: LinkRate,
  { arrivals, openedUs }: kvV1.Credit,
  openedAt: number,
  frames: { get(part: number): OutboundFrame | undefined },
): void {
  rate.small(openedAt, Number(openedUs) / 1000);
  for (const { part, atUs, gapUs } of arrivals) {
    const frame = frames.get(part);
    if (frame?.publishedAt === undefined) continue;
    const gapMs = gapUs === undefined ? undefined : Number(gapUs) / 1000;
    rate.frame({ bytes: frameBytes(frame), publishedAt: frame.publishedAt, arrivedAt: Number(atUs) / 1000, gapMs });
  }
}

/** What decoding cost. */
export function learnFromReceiver(policy: CodecPolicy, committed: kvV1.Committed): void {
  for (const cost of committed.decodeCosts) {
    const codec = codecFromProto(cost.codec);
    if (codec !== undefined) policy.decoded(codec, Number(cost.rawBytes), Number(cost.microseconds) / 1000);
  }
}
