/** Widening of stored weights to f32. Input and output are views of native memory; nothing is allocated. */
import { BLOCK, type ConvertibleType } from './convert-job.ts';
import { halfToFloat, halfToFloatBits } from './half-float.ts';

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

function widenQ8(bytes: Uint8Array, out: Float32Array): void {
  const half = halfToFloat();
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0, o = 0; o < out.length; at += 34, o += 32) {
    const d = half[(bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)] ?? 0;
    for (let i = 0; i < 32; i++) out[o + i] = d * (signed[at + 2 + i] ?? 0);
  }
}

function widenQ4(bytes: Uint8Array, out: Float32Array, hasMinimum: boolean): void {
  const half = halfToFloat();
  const step = hasMinimum ? 20 : 18;
  for (let at = 0, o = 0; o < out.length; at += step, o += 32) {
    const d = half[(bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)] ?? 0;
    const m = hasMinimum ? (half[(bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)] ?? 0) : -8 * d;
    const quants = at + step - 16;
    for (let i = 0; i < 16; i++) {
      const byte = bytes[quants + i] ?? 0;
      out[o + i] = d * (byte & 15) + m;
      out[o + 16 + i] = d * (byte >> 4) + m;
    }
  }
}

/**
 * Widens stored weights to f32: bf16 and f16 exactly; Q8_0 d*q, Q4_0 d*(q-8), Q4_1 d*q+m (ggml-quants.c dequantize_row_*).
 * `bytes` holds exactly the blocks of `out.length` elements.
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
    case 'Q8_0':
      return widenQ8(bytes, out);
    case 'Q4_0':
      return widenQ4(bytes, out, false);
    case 'Q4_1':
      return widenQ4(bytes, out, true);
  }
}
