/**
 * Bodies of frames: the bytes of one part under a codec. Synchronous and slow (1 GB/s or less): runs in codec-worker.ts only,
 * but for `none`, which is a copy.
 *
 * planes+zstd body: u8 plane count (= bytes of a number), u8 bit mask of planes that are zstd frames, u16 zero,
 * u32 length of each plane's bytes, then the planes. A plane that doesn't compress is raw.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { fail, ServiceError } from '@causeway/errors';
import type { KvCodec } from './codec.ts';
import { joinPlanes, planeBufferBytes, planeOffset, splitPlanes } from './plane-split.ts';

const SAMPLE_BYTES = 16_384;
const SAMPLE_RUNS = 8;
/** A plane whose sample shrinks less than this stays raw: the time is better spent on the exponents. */
const WORTHWHILE = 0.97;
/** Largest window a body may ask the decoder to allocate: 2^23 bytes. */
const WINDOW_LOG_MAX = 23;

/** zstd as it comes, for whole parts. */
const WHOLE = { [constants.ZSTD_c_compressionLevel]: 1 };
/**
 * For planes, which have hardly a repeated string: entropy coding in small blocks (16 KiB, so that the tables follow layers and
 * K or V) and next to no search. On SmolLM2's KV twice as fast as level 1 alone, and the exponents shrink 2.72 times, not 2.49.
 */
const PLANE = {
  ...WHOLE,
  [constants.ZSTD_c_strategy]: constants.ZSTD_fast,
  [constants.ZSTD_c_minMatch]: 7,
  [constants.ZSTD_c_targetLength]: 0,
  [constants.ZSTD_c_windowLog]: 14,
  [constants.ZSTD_c_hashLog]: 6,
};

/** Buffers that one thread reuses from job to job. */
export class CodecScratch {
  #raw = new Uint8Array(0);
  #planes = new Uint8Array(0);

  raw(bytes: number): Uint8Array {
    if (this.#raw.length < bytes) this.#raw = new Uint8Array(bytes);
    return this.#raw.subarray(0, bytes);
  }

  planes(bytes: number): Uint8Array {
    if (this.#planes.length < bytes) this.#planes = new Uint8Array(bytes);
    return this.#planes.subarray(0, bytes);
  }
}

/**
 * Encodes `raw` into `out`.
 * @returns bytes written, or undefined when the encoding wouldn't be smaller than `raw` or doesn't fit `out`.
 */
export function encodeBody(
  codec: Exclude<KvCodec, 'none'>,
  raw: Uint8Array,
  elementBytes: 1 | 2 | 4,
  out: Uint8Array,
  scratch: CodecScratch,
): number | undefined {
  const limit = Math.min(out.length, raw.length - 1);
  if (codec === 'zstd') {
    const body = compress(raw, WHOLE);
    if (body.length > limit) return undefined;
    out.set(body);
    return body.length;
  }
  const planeBytes = raw.length / elementBytes;
  const planes = scratch.planes(planeBufferBytes(raw.length, elementBytes));
  splitPlanes(raw, planes, elementBytes);
  let position = 4 + 4 * elementBytes;
  if (position > limit) return undefined;
  const header = new DataView(out.buffer, out.byteOffset, position);
  let mask = 0;
  for (let plane = 0; plane < elementBytes; plane++) {
    const offset = planeOffset(plane, planeBytes);
    let body = planes.subarray(offset, offset + planeBytes);
    if (looksCompressible(body)) {
      const packed = compress(body, PLANE);
      if (packed.length < body.length) {
        body = packed;
        mask |= 1 << plane;
      }
    }
    if (position + body.length > limit) return undefined;
    out.set(body, position);
    header.setUint32(4 + 4 * plane, body.length, true);
    position += body.length;
  }
  header.setUint8(0, elementBytes);
  header.setUint8(1, mask);
  header.setUint16(2, 0, true);
  return position;
}

/**
 * Decodes a body of unknown origin into `raw`, which has exactly the size that the frame's header says.
 * Allocates no more than that size and zstd's window (8 MiB at most).
 * @throws ServiceError `malformed_frame` when the body isn't one whose decoded size is exactly `raw.length`.
 */
export function decodeBody(
  codec: KvCodec,
  body: Uint8Array,
  raw: Uint8Array,
  elementBytes: 1 | 2 | 4,
  scratch: CodecScratch,
): void {
  if (codec === 'none') {
    if (body.length !== raw.length) malformed(`a raw body of ${body.length} bytes for ${raw.length}`);
    raw.set(body);
  } else if (codec === 'zstd') {
    raw.set(decompress(body, raw.length));
  } else {
    decodePlanes(body, raw, elementBytes, scratch);
  }
}

function decodePlanes(body: Uint8Array, raw: Uint8Array, elementBytes: 1 | 2 | 4, scratch: CodecScratch): void {
  const headerBytes = 4 + 4 * elementBytes;
  if (body.length < headerBytes) malformed(`planes: ${body.length} bytes are shorter than the header`);
  if (raw.length % elementBytes !== 0) malformed(`planes: ${raw.length} bytes are no multiple of ${elementBytes}`);
  const header = new DataView(body.buffer, body.byteOffset, headerBytes);
  const mask = header.getUint8(1);
  if (header.getUint8(0) !== elementBytes) malformed(`planes: ${header.getUint8(0)} planes of ${elementBytes}-byte numbers`);
  if (mask >>> elementBytes !== 0 || header.getUint16(2, true) !== 0) malformed('planes: unknown flags');
  const planeBytes = raw.length / elementBytes;
  const planes = scratch.planes(planeBufferBytes(raw.length, elementBytes));
  let position = headerBytes;
  for (let plane = 0; plane < elementBytes; plane++) {
    const length = header.getUint32(4 + 4 * plane, true);
    if (length > body.length - position) malformed(`planes: plane ${plane} ends past the body`);
    const packed = body.subarray(position, position + length);
    position += length;
    const compressed = (mask & (1 << plane)) !== 0;
    if (!compressed && length !== planeBytes) malformed(`planes: raw plane ${plane} has ${length} bytes, not ${planeBytes}`);
    planes.set(compressed ? decompress(packed, planeBytes) : packed, planeOffset(plane, planeBytes));
  }
  if (position !== body.length) malformed(`planes: ${body.length - position} bytes too many`);
  joinPlanes(planes, raw, elementBytes);
}

function compress(data: Uint8Array, params: Record<number, number>): Uint8Array {
  return zstdCompressSync(data, {
    // one output chunk: zstd's own bound (zstd.h, ZSTD_COMPRESSBOUND)
    chunkSize: Math.max(64, data.length + (data.length >>> 8) + 512),
    params,
  });
}

function decompress(body: Uint8Array, size: number): Uint8Array {
  let decoded: Uint8Array;
  try {
    decoded = zstdDecompressSync(body, {
      maxOutputLength: Math.max(1, size),
      chunkSize: Math.max(64, size),
      params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
    });
  } catch (cause) {
    throw new ServiceError(`zstd refuses the body or it holds more than ${size} bytes`, {
      code: 'invalid_argument',
      reason: 'malformed_frame',
      cause,
    });
  }
  if (decoded.length !== size) malformed(`zstd: ${decoded.length} bytes decoded where the header says ${size}`);
  return decoded;
}

function looksCompressible(plane: Uint8Array): boolean {
  if (plane.length < 64) return false;
  if (plane.length <= SAMPLE_BYTES) return true;
  const run = SAMPLE_BYTES / SAMPLE_RUNS;
  const sample = new Uint8Array(SAMPLE_BYTES);
  for (let i = 0; i < SAMPLE_RUNS; i++) {
    const start = Math.floor(((plane.length - run) * i) / (SAMPLE_RUNS - 1));
    sample.set(plane.subarray(start, start + run), i * run);
  }
  return compress(sample, PLANE).length < WORTHWHILE * SAMPLE_BYTES;
}

function malformed(message: string): never {
  return fail('invalid_argument', 'malformed_frame', message);
}
