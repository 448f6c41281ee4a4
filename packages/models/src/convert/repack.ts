/**
 * GGUF blocks to MatMulNBits inputs. GGUF keeps elements 0..15 of a block in the low nibbles and 16..31 in the high ones;
 * MatMulNBits wants element 2i in the low and 2i+1 in the high nibble of byte i.
 */
import { halfToFloat } from './half-float.ts';

/**
 * Repacks consecutive Q4_0 (`offsets` undefined) or Q4_1 blocks. MatMulNBits with its default zero point 8 computes
 * d*(q-8); for Q4_1 (d*q+m) the rest of each weight is the block's constant m+8d, written to `offsets`.
 */
export function repackQ4(bytes: Uint8Array, quants: Uint8Array, scales: Float32Array, offsets: Float32Array | undefined): void {
  const half = halfToFloat();
  const step = offsets === undefined ? 18 : 20;
  for (let block = 0, at = 0, q = 0; block < scales.length; block++, at += step, q += 16) {
    const d = half[(bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)] ?? 0;
    scales[block] = d;
    if (offsets !== undefined) offsets[block] = (half[(bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)] ?? 0) + 8 * d;
    const first = at + step - 16;
    for (let i = 0; i < 8; i++) {
      const even = bytes[first + 2 * i] ?? 0;
      const odd = bytes[first + 2 * i + 1] ?? 0;
      quants[q + i] = (even & 15) | ((odd & 15) << 4);
      quants[q + 8 + i] = (even >> 4) | (odd & 0xf0);
    }
  }
}

/** Repacks consecutive Q8_0 blocks: signed to unsigned with zero point 128. */
export function repackQ8(bytes: Uint8Array, quants: Uint8Array, scales: Float32Array): void {
  const half = halfToFloat();
  for (let block = 0, at = 0, q = 0; block < scales.length; block++, at += 34, q += 32) {
    scales[block] = half[(bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)] ?? 0;
    for (let i = 0; i < 32; i++) quants[q + i] = (bytes[at + 2 + i] ?? 0) ^ 0x80;
  }
}
