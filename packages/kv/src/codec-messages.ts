/** What CodecPool and its threads say to each other. Memory travels as addresses: nothing is copied. */
import type { KvCodec } from './codec.ts';

/** `length` bytes at `offset` of a registered region. */
export interface MemoryRun {
  region: number;
  offset: number;
  length: number;
}

export type CodecRequest =
  | { kind: 'register'; region: number; address: bigint; byteLength: number }
  | { kind: 'unregister'; region: number }
  | { kind: 'encode'; job: number; codec: KvCodec; elementBytes: 2 | 4; raw: readonly MemoryRun[]; out: MemoryRun }
  | {
      kind: 'decode';
      job: number;
      codec: KvCodec;
      elementBytes: 2 | 4;
      body: MemoryRun;
      rawCrc: number;
      raw: readonly MemoryRun[];
    };

export interface EncodedPart {
  /** The codec asked for, or `none` when it would not have made the part smaller. */
  codec: KvCodec;
  encodedBytes: number;
  rawBytes: number;
  /** CRC-32C of the raw bytes and of the body. */
  rawCrc: number;
  bodyCrc: number;
  /** Thread time, ms. */
  encodeMs: number;
}

export interface DecodedPart {
  /** Thread time, ms. */
  decodeMs: number;
}

export type CodecResponse =
  | { kind: 'encoded'; job: number; part: EncodedPart }
  | { kind: 'decoded'; job: number; part: DecodedPart }
  | { kind: 'failed'; job: number; reason: 'malformed_frame' | 'checksum' | 'internal'; message: string };
