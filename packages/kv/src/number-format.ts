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

/** The f8e4m3 byte nearest to a finite number. */
function f8Byte(value: number): number {
  float[0] = value;
  const bits = word[0] as number;
  const sign = (bits >>> 24) & 0x80;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7f;
  if (magnitude >= 0x43e0_0000) return sign | 0x7e;
  // below 2^-6 numbers are multiples of 2^-9
  if (magnitude < 0x3c80_0000) return sign | roundHalfEven(Math.abs(value) * 512);
  const rounded = magnitude + 0x7_ffff + ((magnitude >>> 20) & 1);
  return sign | Math.min(0x7e, (rounded >>> 20) - ((127 - 7) << 3));
}

/** To the nearest integer, ties to even; for magnitudes below 2^22. */
export function roundHalfEven(value: number): number {
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
      for (let i = 0; i < bits.length; i++) bits[i] = (words[i] as number) << 16;
      return;
    case 'f16':
      return out.set(new Float16Array(words.buffer, words.byteOffset, out.length));
    case 'f8e4m3':
      for (let i = 0; i < out.length; i++) out[i] = (F8_VALUES[words[i] as number] as number) * scale;
      return;
    case 'int8':
      for (let head = 0, i = 0; i < out.length; head++) {
        const factor = factors[head] as number;
        for (const end = i + width; i < end; i++) out[i] = (((words[i] as number) << 24) >> 24) * factor;
      }
      return;
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
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (hasFactors(dtype)) return encodeCodes(dtype, width, values, words as Uint8Array, factors);
  switch (dtype) {
    case 'f32':
      return words.set(bits);
    case 'bf16':
      for (let i = 0; i < bits.length; i++) words[i] = bf16Bits(bits[i] as number);
      return;
    case 'f16':
      return new Float16Array(words.buffer, words.byteOffset, values.length).set(values);
    case 'f8e4m3':
      for (let i = 0; i < values.length; i++) words[i] = f8Byte(Math.fround((values[i] as number) / scale));
      return;
    default:
      dtype satisfies never;
  }
}

function encodeCodes(
  dtype: 'int8' | 'int4',
  width: number,
  values: Float32Array,
  words: Uint8Array,
  factors: Float32Array,
): void {
  const largest = LARGEST_CODE[dtype];
  for (let head = 0, first = 0; first < values.length; head++, first += width) {
    let magnitude = LEAST_MAGNITUDE;
    for (let i = first; i < first + width; i++) magnitude = Math.max(magnitude, Math.abs(values[i] as number));
    const factor = toBf16(Math.fround(magnitude / largest));
    factors[head] = factor;
    const code = (i: number): number =>
      Math.max(-largest, Math.min(largest, roundHalfEven(Math.fround((values[i] as number) / factor))));
    if (dtype === 'int8') for (let i = first; i < first + width; i++) words[i] = code(i);
    else for (let i = first; i < first + width; i += 2) words[i >>> 1] = (code(i) & 15) | (code(i + 1) << 4);
  }
}
