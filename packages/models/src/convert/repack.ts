/**
 * GGUF blocks as inputs of MatMulNBits, which computes scale * (q - zero point) with the zero point 8 of 4 bits or 128 of 8, and
 * wants element 2i of a 4-bit group in the low and 2i+1 in the high nibble of byte i.
 */
import { blockScales, QUANT_FORMATS, type QuantizedType } from './quant-formats.ts';

/** What a type becomes. */
export interface PackedForm {
  bits: 4 | 8;
  /** Inputs that share a scale. */
  group: 16 | 32;
  /** Whether weights are scale * (q - zero point) plus an offset of their group. */
  hasOffsets: boolean;
}

/** Quants of 4 bits stay so, wider ones are stored in 8. */
export function packedForm(type: QuantizedType): PackedForm {
  const { bits, group, zero } = QUANT_FORMATS[type];
  return { bits: bits === 4 ? 4 : 8, group, hasOffsets: zero === undefined };
}

/** `count` bytes of nibbles, as `QuantFormat.nibbles` says. */
function reorderNibbles(bytes: Uint8Array, at: number, count: number, run: number, quants: Uint8Array, first: number): void {
  const half = run / 2;
  for (let start = 0; start < count; start += run) {
    for (let i = 0, from = at + start, q = first + start; i < half; i++, from += 2, q++) {
      const even = bytes[from] ?? 0;
      const odd = bytes[from + 1] ?? 0;
      quants[q] = (even & 15) | ((odd & 15) << 4);
      quants[q + half] = (even >> 4) | (odd & 0xf0);
    }
  }
}

/**
 * Repacks consecutive blocks: quants [groups, group * bits / 8], scales [groups]. A type with minimums is turned around the middle of
 * its quants, which keeps rounded products small: the rest of each weight is its group's minimum + middle * scale, in `offsets`.
 */
export function repack(
  type: QuantizedType,
  bytes: Uint8Array,
  quants: Uint8Array,
  scales: Float32Array,
  offsets: Float32Array | undefined,
): void {
  const { elements, bytes: step, group, bits, zero, nibbles, openScales, openQuants } = QUANT_FORMATS[type];
  const middle = zero ?? 2 ** (bits - 1);
  // Of 5 and 6 bits each is spread over 8: kernels take the sum of inputs times 128 off again, which would dwarf small quants in f32.
  const steps = bits < 8 && nibbles === undefined ? 2 ** (8 - bits) : 1;
  const groups = elements / group;
  const packed = nibbles === undefined ? elements : elements / 2;
  const block = blockScales();
  for (let at = 0, q = 0, g = 0; q < quants.length; at += step, q += packed) {
    openScales(bytes, at, block);
    for (let i = 0; i < groups; i++, g++) {
      const scale = block.scales[i] ?? 0;
      // A power of two: no bit is lost.
      scales[g] = scale / steps;
      if (offsets !== undefined) offsets[g] = (block.minimums[i] ?? 0) + middle * scale;
    }
    if (nibbles !== undefined) {
      reorderNibbles(bytes, at + nibbles.first, packed, nibbles.run, quants, q);
      continue;
    }
    openQuants(bytes, at, quants, q);
    if (bits < 8) for (let i = q; i < q + elements; i++) quants[i] = ((quants[i] ?? 0) - middle) * steps + 128;
  }
}
