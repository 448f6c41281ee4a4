/** The numbers that scripted workers tell. */
import { kvV1, type workerV1 } from '@causeway/proto';

export const RAW_BYTES = 1000;
export const SENT_BYTES = 640;

/** What the log-probability of a prompt's token is, from 1 on. */
export function promptLogprobAt(position: number): number {
  return -position / 16;
}

/** What a scripted token's log-probability is. */
export function logprobAt(position: number): number {
  return -(position + 1) / 8;
}

/** What the two ends of a fake transfer store. */
export const REPRESENTATION = { sender: 'f8e4m3 HND 64', receiver: 'int8 NZ 128', wire: 'int8', lossless: false };

export function stats(): workerV1.TransferStats {
  return {
    rawBytes: BigInt(RAW_BYTES),
    sentBytes: BigInt(SENT_BYTES),
    frames: 2,
    resentParts: 0,
    codec: kvV1.KvCodec.KV_CODEC_PLANES_ZSTD,
    transferMs: 3.5,
    prefillMs: 7.25,
    queueMs: 0.5,
    expertCalls: [],
    representation: REPRESENTATION,
    convertMs: 0.5,
  };
}
