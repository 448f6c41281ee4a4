/**
 * Numbers of stored KV <-> f32, in runs. Rounding is to nearest, ties to even, everywhere, as ONNX Runtime's Cast and Round do, so that
 * graphs and this code give the same bits. Slow for an event loop: threads only.
 *
 * f8e4m3: OCP 8-bit floating point, E4M3: bias 7, largest 448, no infinities; what is larger becomes 448.
 * int8, int4: symmetric, number = code * factor with codes to 127 and 7. The factor is (largest magnitude) / 127 or / 7 rounded to
 * bf16: then code * factor is exact in f32 and rounding twice is rounding once.
 */
import { hasFactors, type KvDtype } from './descriptor.ts';

/** Largest code of a type with factors. */
export const LARGEST_CODE = { int8: 127, int4: 7 } as const;
/** Rows whose numbers are all smaller have the factor of this magnitude: a division by zero is not a number. */
export const LEAST_MAGNITUDE = 2 ** -100;

/** Bits of the least magnitude. */
const LEAST_BITS = (127 - 100) << 23;

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The upper half of an f32's bits after rounding; a NaN stays one. */
function bf16Bits(bits: number): number {
  if ((bits & 0x7fff_ffff) > 0x7f80_0000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Rounds to bf16, as f32. */
export function toBf16(value: number): number {
  float[0] = value;
  word[0] = bf16Bits(word[0] as number) << 16;
  return float[0];
}

/** Value of each f8e4m3 byte. */
const F8_VALUES = Float32Array.from({ length: 256 }, (_, byte) => {
  const sign = byte & 0x80 ? -1 : 1;
  const exponent = (byte >>> 3) & 15;
  const mantissa = byte & 7;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return sign * (exponent === 0 ? (mantissa / 8) * 2 ** -6 : (1 + mantissa / 8) * 2 ** (exponent - 7));
});

/** The f8e4m3 byte nearest to the number with these f32 bits. */
function f8Byte(bits: number): number {
  word[0] = bits;
  const value = float[0] as number;
  const sign = (bits >>> 24) & 0x80;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7f;
  if (magnitude >= 0x43e0_0000) return sign | 0x7e;
  // below 2^-6 numbers are multiples of 2^-9
  if (magnitude < 0x3c80_0000) return sign | roundHalfEven(Math.abs(value) * 512);
  const rounded = magnitude + 0x7_ffff + ((magnitude >>> 20) & 1);
  return sign | Math.min(0x7e, (rounded >>> 20) - ((127 - 7) << 3));
}

/**
 * f8e4m3 bytes of numbers of 16 bits: the upper half of an f32, its last bit set when anything of the lower half is. Rounding to that
 * first changes nothing: it has more bits than are needed to tell above from below a tie.
 */
const F8_BYTES = Uint8Array.from({ length: 1 << 16 }, (_, upper) => f8Byte((upper << 16) >>> 0));

/** f32 bits of each f16. */
const F16_BITS = new Uint32Array(
  new Float32Array(new Float16Array(Uint16Array.from({ length: 1 << 16 }, (_, i) => i).buffer)).buffer,
);

/** To the nearest integer, ties to even; for magnitudes below 2^22. */
function roundHalfEven(value: number): number {
  return value + 6755399441055744 - 6755399441055744;
}

/** Bytes as the numbers of a type; two to a byte of int4. `bytes` begins at a multiple of 4. */
export function numbersOf(dtype: KvDtype, bytes: Uint8Array): Uint8Array | Uint16Array | Uint32Array {
  const { buffer, byteOffset, length } = bytes;
  if (dtype === 'f32') return new Uint32Array(buffer, byteOffset, length >>> 2);
  if (dtype === 'f16' || dtype === 'bf16') return new Uint16Array(buffer, byteOffset, length >>> 1);
  return bytes;
}

/** What rows of numbers look like. */
export interface RowFormat {
  dtype: KvDtype;
  /** Of one head of one token. */
  width: number;
  /** f8e4m3's factor. */
  scale: number;
}

/** Numbers to f32: `count` heads of `width` numbers each, factors one a head. */
export function decodeNumbers(
  { dtype, width, scale }: RowFormat,
  words: Uint8Array | Uint16Array | Uint32Array,
  factors: Float32Array,
  out: Float32Array,
): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  switch (dtype) {
    case 'f32':
      return bits.set(words);
    case 'bf16':
      return widenBf16(wordsOf(words), bits);
    case 'f16':
      for (let i = 0; i < bits.length; i++) bits[i] = F16_BITS[words[i] as number] as number;
      return;
    case 'f8e4m3':
      return widenBytes(wordsOf(words), f8Bits(scale), bits);
    case 'int8':
      return widenInt8(wordsOf(words), width, factors, out);
    case 'int4':
      for (let head = 0, i = 0; i < out.length; head++) {
        const factor = factors[head] as number;
        for (const end = i + width; i < end; i += 2) {
          const byte = words[i >>> 1] as number;
          out[i] = ((byte << 28) >> 28) * factor;
          out[i + 1] = ((byte << 24) >> 28) * factor;
        }
      }
      return;
    default:
      dtype satisfies never;
  }
}

/** Numbers from f32; inverse of decodeNumbers where the type can hold them. */
export function encodeNumbers(
  { dtype, width, scale }: RowFormat,
  values: Float32Array,
  words: Uint8Array | Uint16Array | Uint32Array,
  factors: Float32Array,
): void {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  if (hasFactors(dtype)) return encodeCodes(dtype, width, values, wordsOf(words), factors);
  switch (dtype) {
    case 'f32':
      return words.set(bits);
    case 'bf16':
      return narrowBf16(bits, wordsOf(words));
    case 'f16':
      return new Float16Array(words.buffer, words.byteOffset, values.length).set(values);
    case 'f8e4m3':
      return narrowF8(scale === 1 ? bits : divided(values, scale), wordsOf(words));
    default:
      dtype satisfies never;
  }
}

/** Four bytes at a time: what is read or written so begins at a multiple of 4 and has a multiple of 4 bytes. */
function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array | Uint16Array | Uint32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, byteLength >>> 2);
}

function widenBf16(words: Int32Array, bits: Uint32Array): void {
  for (let i = 0; i < words.length; i++) {
    const two = words[i] as number;
    bits[2 * i] = two << 16;
    bits[2 * i + 1] = two & 0xffff_0000;
  }
}

function widenBytes(words: Int32Array, table: Uint32Array, bits: Uint32Array): void {
  for (let i = 0; i < words.length; i++) {
    const four = words[i] as number;
    bits[4 * i] = table[four & 0xff] as number;
    bits[4 * i + 1] = table[(four >>> 8) & 0xff] as number;
    bits[4 * i + 2] = table[(four >>> 16) & 0xff] as number;
    bits[4 * i + 3] = table[four >>> 24] as number;
  }
}

/** Value of each code, as a byte. */
const INT8_VALUES = Float32Array.from(new Int8Array(256).map((_, byte) => byte));

function widenInt8(words: Int32Array, width: number, factors: Float32Array, out: Float32Array): void {
  for (let head = 0, i = 0; i < out.length; head++) {
    const factor = Math.fround(factors[head] as number);
    for (const end = i + width; i < end; i += 4) {
      const four = words[i >>> 2] as number;
      out[i] = Math.fround((INT8_VALUES[four & 0xff] as number) * factor);
      out[i + 1] = Math.fround((INT8_VALUES[(four >>> 8) & 0xff] as number) * factor);
      out[i + 2] = Math.fround((INT8_VALUES[(four >>> 16) & 0xff] as number) * factor);
      out[i + 3] = Math.fround((INT8_VALUES[four >>> 24] as number) * factor);
    }
  }
}

function narrowBf16(bits: Int32Array, words: Int32Array): void {
  for (let i = 0; i < words.length; i++) {
    const a = bits[2 * i] as number;
    const b = bits[2 * i + 1] as number;
    const low = (a & 0x7fff_ffff) > 0x7f80_0000 ? (a >>> 16) | 0x40 : ((a + 0x7fff + ((a >>> 16) & 1)) | 0) >>> 16;
    const high = (b & 0x7fff_ffff) > 0x7f80_0000 ? b | 0x40_0000 : (b + 0x7fff + ((b >>> 16) & 1)) | 0;
    words[i] = low | (high & 0xffff_0000);
  }
}

/** Index into F8_BYTES of the number with these bits. */
function upperHalf(bits: number): number {
  return (bits >>> 16) | (((bits & 0xffff) + 0xffff) >>> 16);
}

function narrowF8(bits: Int32Array, words: Int32Array): void {
  for (let i = 0; i < words.length; i++) {
    const a = F8_BYTES[upperHalf(bits[4 * i] as number)] as number;
    const b = F8_BYTES[upperHalf(bits[4 * i + 1] as number)] as number;
    const c = F8_BYTES[upperHalf(bits[4 * i + 2] as number)] as number;
    const d = F8_BYTES[upperHalf(bits[4 * i + 3] as number)] as number;
    words[i] = a | (b << 8) | (c << 16) | (d << 24);
  }
}

/** Bits of values over scale. */
function divided(values: Float32Array, scale: number): Int32Array {
  const scaled = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) scaled[i] = (values[i] as number) / scale;
  return new Int32Array(scaled.buffer);
}

let f8Table = { scale: Number.NaN, bits: new Uint32Array(0) };

/** f32 bits of every f8e4m3 byte times its factor; that of the last scale is kept. */
function f8Bits(scale: number): Uint32Array {
  if (f8Table.scale !== scale) {
    const scaled = F8_VALUES.map((value) => value * scale);
    f8Table = { scale, bits: new Uint32Array(scaled.buffer) };
  }
  return f8Table.bits;
}

/** Added to a number below 2^22, it leaves the nearest integer, ties to even, in the lowest bits of the f32 sum. */
const TO_INTEGER = 12_582_912;

let sums = new Float32Array(0);

/**
 * Codes of rows and their factors. No code needs clipping: a factor is at most 2^-9 of itself below (largest magnitude) / (largest code),
 * which is too little to reach the next code. Of rows with infinities or NaNs no number comes back anyway.
 */
function encodeCodes(
  dtype: 'int8' | 'int4',
  width: number,
  values: Float32Array,
  words: Int32Array,
  factors: Float32Array,
): void {
  const largest = LARGEST_CODE[dtype];
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  if (sums.length < values.length) sums = new Float32Array(values.length);
  for (let head = 0, first = 0; first < values.length; head++, first += width) {
    word[0] = largestMagnitude(bits, first, first + width);
    const factor = toBf16(Math.fround((float[0] as number) / largest));
    factors[head] = factor;
    quotients(values, Math.fround(factor), first, first + width);
  }
  const codes = new Int32Array(sums.buffer, 0, values.length);
  if (dtype === 'int8') packBytes(codes, words);
  else packHalves(codes, words);
}

/** Bits of the largest magnitude: magnitudes are in the order of their bits. */
function largestMagnitude(bits: Int32Array, from: number, end: number): number {
  let a = LEAST_BITS;
  let b = LEAST_BITS;
  for (let i = from; i < end; i += 2) {
    const one = (bits[i] as number) & 0x7fff_ffff;
    const other = (bits[i + 1] as number) & 0x7fff_ffff;
    if (one > a) a = one;
    if (other > b) b = other;
  }
  return a > b ? a : b;
}

function quotients(values: Float32Array, factor: number, from: number, end: number): void {
  for (let i = from; i < end; i++) {
    sums[i] = Math.fround(Math.fround((values[i] as number) / factor) + TO_INTEGER);
  }
}

function packBytes(codes: Int32Array, words: Int32Array): void {
  for (let i = 0, at = 0; at < words.length; i += 4, at++) {
    const low = ((codes[i] as number) & 0xff) | (((codes[i + 1] as number) & 0xff) << 8);
    words[at] = low | (((codes[i + 2] as number) & 0xff) << 16) | ((codes[i + 3] as number) << 24);
  }
}

function packHalves(codes: Int32Array, words: Int32Array): void {
  for (let i = 0, at = 0; at < words.length; at++) {
    let packed = 0;
    for (let shift = 0; shift < 32; shift += 4, i++) packed |= ((codes[i] as number) & 15) << shift;
    words[at] = packed;
  }
}
