import { crc32c } from '@node-rs/crc32';
import fc from 'fast-check';
import { KV_CODECS } from '@causeway/kv';
import { describe, expect, test } from 'vitest';
import { FRAME_HEADER_BYTES, type FrameHeader, readFrameHeader, writeFrameHeader } from './frame.ts';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const headerOf: fc.Arbitrary<FrameHeader> = fc.record({
  transferId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex')),
  epoch: u32,
  object: u32,
  part: u32,
  codec: fc.constantFrom(...KV_CODECS),
  rawBytes: u32,
  bodyBytes: fc.nat(200),
  bodyCrc: u32,
  rawCrc: u32,
  resent: fc.boolean(),
});

function frameOf(header: FrameHeader): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + header.bodyBytes);
  writeFrameHeader(frame, header);
  return frame;
}

/** Changes header bytes and makes the header's own checksum right again: what a lying sender can do. */
function forge(frame: Uint8Array, change: (bytes: Buffer) => void): Uint8Array {
  const bytes = Buffer.from(frame);
  change(bytes);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60)), 60);
  return bytes;
}

const sample: FrameHeader = {
  transferId: '000102030405060708090a0b0c0d0e0f',
  epoch: 7,
  object: 2,
  part: 1,
  codec: 'planes+zstd',
  rawBytes: 4096,
  bodyBytes: 3,
  bodyCrc: 0xdeadbeef,
  rawCrc: 0x01020304,
  resent: true,
};

describe('frame header', () => {
  test('has these bytes', () => {
    expect(Buffer.from(frameOf(sample)).toString('hex')).toBe(
      '43574b56' + // CWKV
        '01' + // version
        '40' + // header bytes
        '0100' + // flags: resent
        '000102030405060708090a0b0c0d0e0f' + // transfer
        '07000000' + // epoch
        '02000000' + // object
        '01000000' + // part
        '03' + // planes+zstd
        '000000' +
        '00100000' + // raw bytes
        '03000000' + // body bytes
        'efbeadde' + // CRC-32C of the body
        '04030201' + // CRC-32C of the raw bytes
        '00000000' +
        '4c6d0746' + // CRC-32C of the 60 bytes before
        '000000', // body
    );
  });

  test('comes back as it was written', () => {
    fc.assert(
      fc.property(headerOf, (header) => {
        expect(readFrameHeader(frameOf(header))).toEqual(header);
      }),
    );
  });

  test('never reads anything else than a frame: every flipped bit is found', () => {
    fc.assert(
      fc.property(headerOf, fc.nat(FRAME_HEADER_BYTES * 8 - 1), (header, bit) => {
        const frame = frameOf(header);
        frame[bit >>> 3] = (frame[bit >>> 3] as number) ^ (1 << (bit & 7));
        expect(() => readFrameHeader(frame)).toThrow(expect.objectContaining({ name: 'ServiceError' }));
      }),
    );
  });

  test('of random bytes is refused with a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => readFrameHeader(bytes)).toThrow(
          expect.objectContaining({ name: 'ServiceError', reason: 'malformed_frame' }),
        );
      }),
    );
  });

  test('of a newer version is refused naming both versions', () => {
    const newer = forge(frameOf(sample), (bytes) => bytes.writeUInt8(3, 4));
    expect(() => readFrameHeader(newer)).toThrow(
      expect.objectContaining({ reason: 'newer_version', message: expect.stringMatching(/version 3.* 1/) }),
    );
  });

  test.each<[string, (bytes: Buffer) => void, RegExp]>([
    ['bad magic', (bytes) => bytes.write('XWKV', 0), /magic/],
    ['version 0', (bytes) => bytes.writeUInt8(0, 4), /version 0/],
    ['another header length', (bytes) => bytes.writeUInt8(72, 5), /header of 72/],
    ['unknown flags', (bytes) => bytes.writeUInt16LE(0x8000, 6), /flags/],
    ['unknown codec', (bytes) => bytes.writeUInt8(9, 36), /codec 9/],
    ['a body longer than there is', (bytes) => bytes.writeUInt32LE(4, 44), /4 body bytes, 3/],
    ['a body shorter than there is', (bytes) => bytes.writeUInt32LE(2, 44), /2 body bytes, 3/],
    ['reserved bytes set', (bytes) => bytes.writeUInt8(1, 39), /flags/],
  ])('with %s is refused', (_, change, message) => {
    expect(() => readFrameHeader(forge(frameOf(sample), change))).toThrow(message);
  });

  test('cut short is refused', () => {
    expect(() => readFrameHeader(frameOf(sample).subarray(0, 63))).toThrow(/63 bytes/);
  });
});
