/**
 * zstd from one piece of memory into another. Node has the library inside: where its functions can be called, contexts are kept from part
 * to part and settings that node:zlib doesn't have are used; elsewhere node:zlib does, at about half the speed. Frames are zstd's either way.
 * Synchronous: codec threads only.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { ownFunctions } from '@causeway/ort';

/** What is compressed: anything, or a plane of numbers (plane-split.ts). */
type ZstdInput = 'whole' | 'plane';

interface Zstd {
  /** @returns bytes of one frame written to `to`; undefined when it doesn't fit */
  compress(input: ZstdInput, from: Uint8Array, to: Uint8Array): number | undefined;
  /** @returns bytes written to `to`; undefined when `from` is no frame, or holds more than `to` */
  decompress(from: Uint8Array, to: Uint8Array): number | undefined;
}

/** Largest window a body may ask for: 2^23 bytes. */
const WINDOW_LOG_MAX = 23;

const WHOLE = { [constants.ZSTD_c_compressionLevel]: 1 };
/**
 * For planes, which have hardly a repeated string: entropy coding in small blocks (so that the tables follow layers and K or V) and next
 * to no search. On SmolLM2's KV twice as fast as level 1 alone, and the exponents shrink 2.72 times, not 2.49.
 */
const PLANE = {
  ...WHOLE,
  [constants.ZSTD_c_strategy]: constants.ZSTD_fast,
  [constants.ZSTD_c_minMatch]: 7,
  [constants.ZSTD_c_targetLength]: 0,
  [constants.ZSTD_c_windowLog]: 14,
  [constants.ZSTD_c_hashLog]: 6,
};
/** No search at all, and literals entropy-coded nevertheless: ZSTD_c_literalCompressionMode, ZSTD_ps_enable. */
const LITERALS_ONLY = { 1002: 1, [constants.ZSTD_c_targetLength]: 1 << 17, [constants.ZSTD_c_windowLog]: 15 };

/** By node:zlib. */
export const nodeZstd: Zstd = {
  compress(input, from, to) {
    const params = input === 'plane' ? PLANE : WHOLE;
    // one output chunk: zstd's own bound (zstd.h, ZSTD_COMPRESSBOUND)
    const frame = zstdCompressSync(from, { chunkSize: Math.max(64, from.length + (from.length >>> 8) + 512), params });
    if (frame.length > to.length) return undefined;
    to.set(frame);
    return frame.length;
  },
  decompress(from, to) {
    try {
      const decoded = zstdDecompressSync(from, {
        maxOutputLength: Math.max(1, to.length),
        chunkSize: Math.max(64, to.length),
        params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
      });
      to.set(decoded);
      return decoded.length;
    } catch {
      return undefined;
    }
  },
};

/** By the functions of this process. undefined where they can't be called. */
export function processZstd(): Zstd | undefined {
  const native = ownFunctions({
    createCompressor: 'void *ZSTD_createCCtx()',
    setParameter: 'int64_t ZSTD_CCtx_setParameter(void *context, int parameter, int value)',
    compress: 'int64_t ZSTD_compress2(void *context, void *to, size_t capacity, const void *from, size_t bytes)',
    createDecompressor: 'void *ZSTD_createDCtx()',
    decompress: 'int64_t ZSTD_decompressDCtx(void *context, void *to, size_t capacity, const void *from, size_t bytes)',
  });
  if (native === undefined) return undefined;
  // kept for the thread's life
  const context = (...sets: Record<string, number>[]): unknown => {
    const made: unknown = native.createCompressor();
    // what this version doesn't know is left out, with all of its set
    for (const params of sets) {
      const entries = Object.entries(params).map(([parameter, value]) => [Number(parameter), value] as const);
      entries.every(([parameter, value]) => Number(native.setParameter(made, parameter, value)) >= 0);
    }
    return made;
  };
  const compressors = { whole: context(WHOLE), plane: context(PLANE, LITERALS_ONLY) };
  const decompressor: unknown = native.createDecompressor();
  const size = (result: unknown): number | undefined => (Number(result) >= 0 ? Number(result) : undefined);
  return {
    compress: (input, from, to) => size(native.compress(compressors[input], to, to.length, from, from.length)),
    decompress: (from, to) => {
      if (windowBytes(from) > 2 ** WINDOW_LOG_MAX) return undefined;
      return size(native.decompress(decompressor, to, to.length, from, from.length));
    },
  };
}

/** The window that a frame asks for (RFC 8878, 3.1.1.1); 0 where it has that of its content. */
function windowBytes(frame: Uint8Array): number {
  const [descriptor = 0, window = 0] = frame.subarray(4, 6);
  const singleSegment = (descriptor & 0x20) !== 0;
  if (singleSegment) return 0;
  return 2 ** (10 + (window >>> 3)) * (1 + (window & 7) / 8);
}

let chosen: Zstd | undefined;

/** The faster one that there is, for this thread. */
export function zstd(): Zstd {
  chosen ??= processZstd() ?? nodeZstd;
  return chosen;
}
