/**
 * The quantised types of GGUF as numbers q with a scale and, in some types, a minimum per group of inputs: a weight is
 * scale * (q - zero) + minimum. Layouts: ggml's ggml-common.h (block_*) and ggml-quants.c (dequantize_row_*); `at` is where a block begins.
 */
import { halfToFloat } from './half-float.ts';

/** What the groups of one block have. */
export interface BlockScales {
  scales: Float32Array;
  /** Of types with minimums only. */
  minimums: Float32Array;
}

export interface QuantFormat {
  /** Of a block. */
  elements: number;
  bytes: number;
  /** Inputs that share a scale. */
  group: 16 | 32;
  /** Of a quant. */
  bits: 4 | 5 | 6 | 8;
  /** The quant of the weight 0; undefined: zero is at 0, and there are minimums. */
  zero: number | undefined;
  /** Of 4 bits: from byte `first` on, `run` bytes hold `run` quants in their low nibbles and the next `run` in their high ones. */
  nibbles?: { first: number; run: 16 | 32 };
  openScales: (bytes: Uint8Array, at: number, scales: BlockScales) => void;
  /** Writes a block's quants to `quants` from `first` on. */
  openQuants: (bytes: Uint8Array, at: number, quants: Uint8Array, first: number) => void;
}

export type QuantizedType = 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

/** Room for the scales of a block of any type. */
export function blockScales(): BlockScales {
  return { scales: new Float32Array(16), minimums: new Float32Array(16) };
}

function half(bytes: Uint8Array, at: number): number {
  return halfToFloat()[(bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)] ?? 0;
}

function scaleOnly(bytes: Uint8Array, at: number, { scales }: BlockScales): void {
  scales[0] = half(bytes, at);
}

function scaleAndMinimum(bytes: Uint8Array, at: number, { scales, minimums }: BlockScales): void {
  scales[0] = half(bytes, at);
  minimums[0] = half(bytes, at + 2);
}

/** d and dmin times 6-bit numbers, packed in 12 bytes (get_scale_min_k4). */
function packedScales(bytes: Uint8Array, at: number, { scales, minimums }: BlockScales): void {
  const d = half(bytes, at);
  const dmin = half(bytes, at + 2);
  for (let i = 0, a = at + 4; i < 4; i++, a++) {
    const first = bytes[a] ?? 0;
    const middle = bytes[a + 4] ?? 0;
    const last = bytes[a + 8] ?? 0;
    scales[i] = d * (first & 63);
    minimums[i] = -dmin * (middle & 63);
    scales[i + 4] = d * ((last & 15) | ((first >> 6) << 4));
    minimums[i + 4] = -dmin * ((last >> 4) | ((middle >> 6) << 4));
  }
}

/** d times 16 signed bytes, behind the quants. */
function signedScales(bytes: Uint8Array, at: number, { scales }: BlockScales): void {
  const d = half(bytes, at + 208);
  for (let i = 0; i < 16; i++) scales[i] = d * (((bytes[at + 192 + i] ?? 0) << 24) >> 24);
}

function openNibbles(bytes: Uint8Array, at: number, run: number, quants: Uint8Array, first: number): void {
  for (let i = 0; i < run; i++) {
    const byte = bytes[at + i] ?? 0;
    quants[first + i] = byte & 15;
    quants[first + run + i] = byte >> 4;
  }
}

/** The fifth bits of 32 quants in 4 bytes, then nibbles. */
function openFifthsAndNibbles(bytes: Uint8Array, at: number, quants: Uint8Array, first: number): void {
  const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
  const high = (bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8);
  for (let i = 0; i < 16; i++) {
    const byte = bytes[at + 4 + i] ?? 0;
    quants[first + i] = (byte & 15) | (((low >> i) & 1) << 4);
    quants[first + 16 + i] = (byte >> 4) | (((high >> i) & 1) << 4);
  }
}

function openSigned(bytes: Uint8Array, at: number, quants: Uint8Array, first: number): void {
  for (let i = 0; i < 32; i++) quants[first + i] = (bytes[at + i] ?? 0) ^ 0x80;
}

/** 32 bytes of fifth bits, one of each byte per run of 32 quants, then nibbles. */
function openQ5K(bytes: Uint8Array, at: number, quants: Uint8Array, first: number): void {
  for (let pair = 0; pair < 4; pair++) {
    for (let i = 0, a = at + 32 + pair * 32, q = first + pair * 64; i < 32; i++, a++, q++) {
      const byte = bytes[a] ?? 0;
      const fifths = (bytes[at + i] ?? 0) >> (2 * pair);
      quants[q] = (byte & 15) | ((fifths & 1) << 4);
      quants[q + 32] = (byte >> 4) | ((fifths & 2) << 3);
    }
  }
}

/** 128 bytes of nibbles, then 64 of upper two bits. */
function openQ6K(bytes: Uint8Array, at: number, quants: Uint8Array, first: number): void {
  for (let part = 0; part < 2; part++) {
    for (let i = 0, low = at + part * 64, q = first + part * 128; i < 32; i++, low++, q++) {
      const upper = bytes[at + 128 + part * 32 + i] ?? 0;
      const one = bytes[low] ?? 0;
      const other = bytes[low + 32] ?? 0;
      quants[q] = (one & 15) | ((upper & 3) << 4);
      quants[q + 32] = (other & 15) | ((upper & 12) << 2);
      quants[q + 64] = (one >> 4) | (upper & 48);
      quants[q + 96] = (other >> 4) | ((upper & 192) >> 2);
    }
  }
}

/** A type of nibbles only. */
function nibbleFormat(
  format: Omit<QuantFormat, 'group' | 'bits' | 'openQuants' | 'nibbles'> & Required<Pick<QuantFormat, 'nibbles'>>,
): QuantFormat {
  const { nibbles, elements } = format;
  return {
    ...format,
    group: 32,
    bits: 4,
    openQuants: (bytes, at, quants, start) => {
      let byte = at + nibbles.first;
      for (let i = 0; i < elements; i += 2 * nibbles.run, byte += nibbles.run)
        openNibbles(bytes, byte, nibbles.run, quants, start + i);
    },
  };
}

export const QUANT_FORMATS: Readonly<Record<QuantizedType, QuantFormat>> = {
  Q4_0: nibbleFormat({ elements: 32, bytes: 18, zero: 8, nibbles: { first: 2, run: 16 }, openScales: scaleOnly }),
  Q4_1: nibbleFormat({ elements: 32, bytes: 20, zero: undefined, nibbles: { first: 4, run: 16 }, openScales: scaleAndMinimum }),
  Q5_0: {
    elements: 32,
    bytes: 22,
    group: 32,
    bits: 5,
    zero: 16,
    openScales: scaleOnly,
    openQuants: (bytes, at, quants, first) => openFifthsAndNibbles(bytes, at + 2, quants, first),
  },
  Q5_1: {
    elements: 32,
    bytes: 24,
    group: 32,
    bits: 5,
    zero: undefined,
    openScales: scaleAndMinimum,
    openQuants: (bytes, at, quants, first) => openFifthsAndNibbles(bytes, at + 4, quants, first),
  },
  Q8_0: {
    elements: 32,
    bytes: 34,
    group: 32,
    bits: 8,
    zero: 128,
    openScales: scaleOnly,
    openQuants: (bytes, at, quants, first) => openSigned(bytes, at + 2, quants, first),
  },
  Q4_K: nibbleFormat({ elements: 256, bytes: 144, zero: undefined, nibbles: { first: 16, run: 32 }, openScales: packedScales }),
  Q5_K: {
    elements: 256,
    bytes: 176,
    group: 32,
    bits: 5,
    zero: undefined,
    openScales: packedScales,
    openQuants: (bytes, at, quants, first) => openQ5K(bytes, at + 16, quants, first),
  },
  Q6_K: { elements: 256, bytes: 210, group: 16, bits: 6, zero: 32, openScales: signedScales, openQuants: openQ6K },
};

export function isQuantized(type: string): type is QuantizedType {
  return Object.hasOwn(QUANT_FORMATS, type);
}
