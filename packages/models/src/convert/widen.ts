/** Widening of stored weights to f32. Input and output are views of native memory; nothing is allocated. */
import { BLOCK, type ConvertibleType } from './convert-job.ts';
import { halfToFloatBits } from './half-float.ts';
import { blockScales, QUANT_FORMATS, type QuantizedType } from './quant-formats.ts';

/** Reads a view as 16-bit words, or undefined when its address is odd. */
function words(bytes: Uint8Array): Uint16Array | undefined {
  return bytes.byteOffset % 2 === 0 ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1) : undefined;
}

function widenWords(bytes: Uint8Array, out: Uint32Array, toBits: (word: number) => number): void {
  const source = words(bytes);
  if (source !== undefined) {
    for (let i = 0; i < out.length; i++) out[i] = toBits(source[i] ?? 0);
    return;
  }
  for (let i = 0; i < out.length; i++) out[i] = toBits((bytes[2 * i] ?? 0) | ((bytes[2 * i + 1] ?? 0) << 8));
}

function bits(out: Float32Array): Uint32Array {
  return new Uint32Array(out.buffer, out.byteOffset, out.length);
}

function widenBlocks(type: QuantizedType, bytes: Uint8Array, out: Float32Array): void {
  const { elements, bytes: step, group, zero, openScales, openQuants } = QUANT_FORMATS[type];
  const quants = new Uint8Array(elements);
  const block = blockScales();
  const { scales, minimums } = block;
  for (let at = 0, first = 0; first < out.length; at += step, first += elements) {
    openScales(bytes, at, block);
    openQuants(bytes, at, quants, 0);
    for (let g = 0, i = 0; i < elements; g++) {
      const scale = scales[g] ?? 0;
      const end = i + group;
      if (zero === undefined) {
        const minimum = minimums[g] ?? 0;
        for (; i < end; i++) out[first + i] = scale * (quants[i] ?? 0) + minimum;
      } else {
        for (; i < end; i++) out[first + i] = scale * ((quants[i] ?? 0) - zero);
      }
    }
  }
}

/**
 * Widens stored weights to f32: bf16 and f16 exactly, quantised ones to the bits that ggml-quants.c dequantize_row_* gives: a
 * scale times a quant fits f32, so that only the sum with a minimum is rounded, once. `bytes` holds exactly the blocks of
 * `out.length` elements.
 */
export function widen(type: ConvertibleType, bytes: Uint8Array, out: Float32Array): void {
  if (bytes.byteLength !== (out.length / BLOCK[type].elements) * BLOCK[type].bytes) {
    throw new RangeError(`${bytes.byteLength} bytes of ${type} for ${out.length} elements`);
  }
  switch (type) {
    case 'F32':
      new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
      return;
    case 'BF16':
      return widenWords(bytes, bits(out), (word) => word << 16);
    case 'F16': {
      const table = halfToFloatBits();
      return widenWords(bytes, bits(out), (word) => table[word] ?? 0);
    }
    default:
      return widenBlocks(type, bytes, out);
  }
}
