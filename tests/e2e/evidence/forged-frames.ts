/** Frames as somebody else would make them: by the layout of docs/wire.md, with none of the product's code. */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) === 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value >>> 0;
});

/** CRC-32C (Castagnoli). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}

export interface ForgedFrame {
  transfer: string;
  epoch: number;
  object: number;
  part: number;
  body: Uint8Array;
  /** Default 1: none. */
  codec?: number;
  /** Default: the body's length. */
  rawBytes?: number;
  /** Added to what the checksum should be. */
  bodyCrcOff?: number;
  rawCrcOff?: number;
  headerCrcOff?: number;
  magic?: string;
  version?: number;
}

/** A frame that is right in everything that isn't said otherwise. */
export function forgeFrame(frame: ForgedFrame): Uint8Array {
  const header = Buffer.alloc(64);
  const crc = crc32c(frame.body);
  header.write(frame.magic ?? 'CWKV', 0, 4, 'latin1');
  header.writeUInt8(frame.version ?? 1, 4);
  header.writeUInt8(64, 5);
  header.write(frame.transfer, 8, 16, 'hex');
  header.writeUInt32LE(frame.epoch, 24);
  header.writeUInt32LE(frame.object, 28);
  header.writeUInt32LE(frame.part, 32);
  header.writeUInt8(frame.codec ?? 1, 36);
  header.writeUInt32LE(frame.rawBytes ?? frame.body.length, 40);
  header.writeUInt32LE(frame.body.length, 44);
  header.writeUInt32LE((crc + (frame.bodyCrcOff ?? 0)) >>> 0, 48);
  header.writeUInt32LE((crc + (frame.rawCrcOff ?? 0)) >>> 0, 52);
  header.writeUInt32LE((crc32c(header.subarray(0, 60)) + (frame.headerCrcOff ?? 0)) >>> 0, 60);
  return Buffer.concat([header, frame.body]);
}
