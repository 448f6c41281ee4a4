/**
 * Frames: a 64-byte little-endian header, then the body. docs/wire.md has the same table; golden bytes are in frame.test.ts.
 *
 *   0  4  magic "CWKV"           32  4  part index in the object
 *   4  1  version = 1            36  1  codec: 1 none, 2 zstd, 3 planes+zstd
 *   5  1  header bytes = 64      37  3  zero
 *   6  2  flags: bit 0 resent    40  4  raw bytes of the part
 *   8 16  transfer id            44  4  body bytes
 *  24  4  epoch                  48  4  CRC-32C of the body
 *  28  4  object index           52  4  CRC-32C of the raw bytes
 *                                56  4  zero
 *                                60  4  CRC-32C of header bytes 0..59
 */
import { fail, ServiceError } from '@causeway/errors';
import { CODEC_NUMBERS, codecOfNumber, type KvCodec } from '@causeway/kv';
import { crc32c } from '@node-rs/crc32';

export const FRAME_VERSION = 1;
export const FRAME_HEADER_BYTES = 64;
/** "CWKV" read as a little-endian u32. */
const MAGIC = 0x564b5743;
const FLAG_RESENT = 1;

export interface FrameHeader {
  /** 32 lower-case hex digits. */
  transferId: string;
  epoch: number;
  object: number;
  part: number;
  codec: KvCodec;
  rawBytes: number;
  bodyBytes: number;
  bodyCrc: number;
  rawCrc: number;
  resent: boolean;
}

/** Writes a header at the start of `out`, at least 64 bytes long. */
export function writeFrameHeader(out: Uint8Array, header: FrameHeader): void {
  const bytes = Buffer.from(out.buffer, out.byteOffset, FRAME_HEADER_BYTES);
  bytes.fill(0);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt8(FRAME_VERSION, 4);
  bytes.writeUInt8(FRAME_HEADER_BYTES, 5);
  bytes.writeUInt16LE(header.resent ? FLAG_RESENT : 0, 6);
  bytes.write(header.transferId, 8, 16, 'hex');
  bytes.writeUInt32LE(header.epoch, 24);
  bytes.writeUInt32LE(header.object, 28);
  bytes.writeUInt32LE(header.part, 32);
  bytes.writeUInt8(CODEC_NUMBERS[header.codec], 36);
  bytes.writeUInt32LE(header.rawBytes, 40);
  bytes.writeUInt32LE(header.bodyBytes, 44);
  bytes.writeUInt32LE(header.bodyCrc, 48);
  bytes.writeUInt32LE(header.rawCrc, 52);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60)), 60);
}

/**
 * Reads the header of a frame of unknown origin. Looks at the header only: the body's checksum is not verified here.
 * @throws ServiceError `malformed_frame`, `newer_version` (naming both versions) or `checksum` (of the header)
 */
export function readFrameHeader(frame: Uint8Array): FrameHeader {
  if (frame.length < FRAME_HEADER_BYTES)
    malformed(`${frame.length} bytes are shorter than the ${FRAME_HEADER_BYTES}-byte header`);
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, FRAME_HEADER_BYTES);
  if (bytes.readUInt32LE(0) !== MAGIC) malformed(`bad magic ${bytes.toString('hex', 0, 4)}`);
  const version = bytes.readUInt8(4);
  if (version > FRAME_VERSION) {
    fail(
      'failed_precondition',
      'newer_version',
      `the frame has version ${version}; this process understands ${FRAME_VERSION}: update it`,
    );
  }
  if (version !== FRAME_VERSION || bytes.readUInt8(5) !== FRAME_HEADER_BYTES)
    malformed(`version ${version}, header of ${bytes.readUInt8(5)} bytes`);
  if (crc32c(bytes.subarray(0, 60)) !== bytes.readUInt32LE(60)) {
    throw new ServiceError('the frame header does not match its CRC-32C', { code: 'data_loss', reason: 'checksum' });
  }
  const flags = bytes.readUInt16LE(6);
  const codec = codecOfNumber(bytes.readUInt8(36));
  if ((flags & ~FLAG_RESENT) !== 0 || bytes.readUIntLE(37, 3) !== 0 || bytes.readUInt32LE(56) !== 0) malformed('unknown flags');
  if (codec === undefined) malformed(`unknown codec ${bytes.readUInt8(36)}`);
  const bodyBytes = bytes.readUInt32LE(44);
  if (bodyBytes !== frame.length - FRAME_HEADER_BYTES) {
    malformed(`the header says ${bodyBytes} body bytes, ${frame.length - FRAME_HEADER_BYTES} are there`);
  }
  return {
    transferId: bytes.toString('hex', 8, 24),
    epoch: bytes.readUInt32LE(24),
    object: bytes.readUInt32LE(28),
    part: bytes.readUInt32LE(32),
    codec,
    rawBytes: bytes.readUInt32LE(40),
    bodyBytes,
    bodyCrc: bytes.readUInt32LE(48),
    rawCrc: bytes.readUInt32LE(52),
    resent: (flags & FLAG_RESENT) !== 0,
  };
}

function malformed(message: string): never {
  return fail('invalid_argument', 'malformed_frame', `KV frame: ${message}`);
}
