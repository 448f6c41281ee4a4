/** What CodecPool and its threads say to each other. Memory travels as addresses: nothing is copied. */
import type { KvCodec } from './codec.ts';
import type { KvDescriptor, KvWireForm } from './descriptor.ts';
import type { LayerRange } from './layer-groups.ts';

/** `length` bytes at `offset` of a registered region. */
export interface MemoryRun {
  region: number;
  offset: number;
  length: number;
}

/** One block: where its page in the chip's storage and its page in wire order begin in their regions. */
export interface ConvertBlock {
  page: number;
  wire: number;
}

export interface ConvertJob {
  way: 'toWire' | 'fromWire';
  /** Number of a converter, see CodecPool.converter. */
  converter: number;
  pageRegion: number;
  wireRegion: number;
  pageBytes: number;
  wireBytes: number;
  blocks: readonly ConvertBlock[];
  /** Left out: all. */
  layers?: LayerRange | undefined;
}

export type CodecRequest =
  | { kind: 'converter'; converter: number; descriptor: KvDescriptor; wire: KvWireForm }
  | ({ kind: 'convert'; job: number } & ConvertJob)
  | { kind: 'register'; region: number; address: bigint; byteLength: number }
  | { kind: 'unregister'; region: number }
  | { kind: 'encode'; job: number; codec: KvCodec; elementBytes: 1 | 2 | 4; raw: readonly MemoryRun[]; out: MemoryRun }
  | {
      kind: 'decode';
      job: number;
      codec: KvCodec;
      elementBytes: 1 | 2 | 4;
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
  /** What it took, ms, and how much of that a processor worked on it. */
  encodeMs: number;
  encodeCpuMs: number;
}

export interface DecodedPart {
  /** Thread time, ms. */
  decodeMs: number;
}

export type CodecResponse =
  | { kind: 'encoded'; job: number; part: EncodedPart }
  | { kind: 'converted'; job: number; part: DecodedPart }
  | { kind: 'decoded'; job: number; part: DecodedPart }
  | { kind: 'failed'; job: number; reason: 'malformed_frame' | 'checksum' | 'internal'; message: string };
