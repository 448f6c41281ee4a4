/**
 * Bodies of frames: the bytes of one part under a codec. Synchronous and slow (1 GB/s or less): runs in codec-worker.ts only,
 * but for `none`, which is a copy.
 *
 * planes+zstd body: u8 plane count (= bytes of a number), u8 bit mask of planes that are zstd frames, u16 zero,
 * u32 length of each plane's bytes, then the planes. A plane that doesn't compress is raw.
 */
import { fail } from '@causeway/errors';
import type { KvCodec } from './codec.ts';
import { kernels } from './kernels.ts';
import { joinPlanes, planeBufferBytes, planeOffset, splitPlanes } from './plane-split.ts';
import { zstd } from './zstd.ts';

const SAMPLE_BYTES = 16_384;
const SAMPLE_RUNS = 8;
/** A plane whose sample shrinks less than this stays raw: the time is better spent on the exponents. */
const WORTHWHILE = 0.97;

/**
 * Encodes the bytes of `raw`, one piece after the other, into `out`.
 * @returns bytes written, or undefined when the encoding wouldn't be smaller than `raw` or doesn't fit `out`.
 */
export function encodeBody(
  codec: Exclude<KvCodec, 'none'>,
  raw: readonly Uint8Array[],
  elementBytes: 1 | 2 | 4,
  out: Uint8Array,
): number | undefined {
  const bytes = raw.reduce((sum, piece) => sum + piece.length, 0);
  const limit = Math.min(out.length, bytes - 1);
  const thread = kernels();
  const [rawAt, planesAt] = thread.areas(bytes, planeBufferBytes(bytes, elementBytes));
  const [first] = raw;
  const placed = codec === 'zstd' && raw.length === 1 && first !== undefined ? first : joined(raw, rawAt, bytes);
  if (codec === 'zstd') return zstd().compress('whole', placed, out.subarray(0, Math.max(0, limit)));
  const planeBytes = bytes / elementBytes;
  splitPlanes(rawAt, planesAt, bytes, elementBytes);
  let position = 4 + 4 * elementBytes;
  if (position > limit) return undefined;
  const header = new DataView(out.buffer, out.byteOffset, position);
  let mask = 0;
  for (let plane = 0; plane < elementBytes; plane++) {
    const body = thread.view(planesAt + planeOffset(plane, planeBytes), planeBytes);
    const room = out.subarray(position, Math.min(limit, position + planeBytes - 1));
    // the highest has the exponents
    const worthwhile = (elementBytes > 1 && plane === elementBytes - 1) || looksCompressible(body);
    let length = worthwhile ? zstd().compress('plane', body, room) : undefined;
    if (length === undefined) {
      if (position + planeBytes > limit) return undefined;
      out.set(body, position);
      length = planeBytes;
    } else {
      mask |= 1 << plane;
    }
    header.setUint32(4 + 4 * plane, length, true);
    position += length;
  }
  header.setUint8(0, elementBytes);
  header.setUint8(1, mask);
  header.setUint16(2, 0, true);
  return position;
}

/** Bytes one piece after the other, in the kernels' memory. */
function joined(pieces: readonly Uint8Array[], at: number, bytes: number): Uint8Array {
  const thread = kernels();
  let end = at;
  for (const piece of pieces) {
    thread.put(piece, end);
    end += piece.length;
  }
  return thread.view(at, bytes);
}

/**
 * Decodes a body of unknown origin to `rawBytes` bytes, which is what the frame's header says. Allocates no more than a few times that size.
 * @returns the bytes, in memory of this thread that the next body or conversion will use
 * @throws ServiceError `malformed_frame` when the body isn't one of exactly that size once decoded
 */
export function decodeBody(
  codec: Exclude<KvCodec, 'none'>,
  body: Uint8Array,
  rawBytes: number,
  elementBytes: 1 | 2 | 4,
): Uint8Array<ArrayBuffer> {
  const thread = kernels();
  const [rawAt, planesAt] = thread.areas(rawBytes, planeBufferBytes(rawBytes, elementBytes));
  const raw = thread.view(rawAt, rawBytes);
  if (codec === 'zstd') decompress(body, raw);
  else decodePlanes(body, rawBytes, elementBytes, rawAt, planesAt);
  return raw;
}

function decodePlanes(body: Uint8Array, rawBytes: number, elementBytes: 1 | 2 | 4, rawAt: number, planesAt: number): void {
  const headerBytes = 4 + 4 * elementBytes;
  if (body.length < headerBytes) malformed(`planes: ${body.length} bytes are shorter than the header`);
  if (rawBytes % elementBytes !== 0) malformed(`planes: ${rawBytes} bytes are no multiple of ${elementBytes}`);
  const header = new DataView(body.buffer, body.byteOffset, headerBytes);
  const mask = header.getUint8(1);
  if (header.getUint8(0) !== elementBytes) malformed(`planes: ${header.getUint8(0)} planes of ${elementBytes}-byte numbers`);
  if (mask >>> elementBytes !== 0 || header.getUint16(2, true) !== 0) malformed('planes: unknown flags');
  const planeBytes = rawBytes / elementBytes;
  let position = headerBytes;
  for (let plane = 0; plane < elementBytes; plane++) {
    const length = header.getUint32(4 + 4 * plane, true);
    if (length > body.length - position) malformed(`planes: plane ${plane} ends past the body`);
    const packed = body.subarray(position, position + length);
    position += length;
    const compressed = (mask & (1 << plane)) !== 0;
    if (!compressed && length !== planeBytes) malformed(`planes: raw plane ${plane} has ${length} bytes, not ${planeBytes}`);
    const target = kernels().view(planesAt + planeOffset(plane, planeBytes), planeBytes);
    if (compressed) decompress(packed, target);
    else target.set(packed);
  }
  if (position !== body.length) malformed(`planes: ${body.length - position} bytes too many`);
  joinPlanes(planesAt, rawAt, rawBytes, elementBytes);
}

function decompress(body: Uint8Array, to: Uint8Array): void {
  const size = zstd().decompress(body, to);
  if (size === undefined) malformed(`zstd refuses the body or it holds more than ${to.length} bytes`);
  if (size !== to.length) malformed(`zstd: ${size} bytes decoded where the header says ${to.length}`);
}

const sample = new Uint8Array(SAMPLE_BYTES);
const sampleFrame = new Uint8Array(Math.floor(WORTHWHILE * SAMPLE_BYTES));

function looksCompressible(plane: Uint8Array): boolean {
  if (plane.length < 64) return false;
  if (plane.length <= SAMPLE_BYTES) return true;
  const run = SAMPLE_BYTES / SAMPLE_RUNS;
  for (let i = 0; i < SAMPLE_RUNS; i++) {
    const start = Math.floor(((plane.length - run) * i) / (SAMPLE_RUNS - 1));
    sample.set(plane.subarray(start, start + run), i * run);
  }
  return zstd().compress('plane', sample, sampleFrame) !== undefined;
}

function malformed(message: string): never {
  return fail('invalid_argument', 'malformed_frame', message);
}
