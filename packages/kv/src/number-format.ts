/**
 * Numbers of stored KV <-> f32, in runs, in the kernels' memory (kernels.ts). Rounding is to nearest, ties to even, everywhere, as ONNX
 * Runtime's Cast and Round do, so that graphs and this code give the same bits. Slow for an event loop: threads only.
 *
 * f8e4m3: OCP 8-bit floating point, E4M3: bias 7, largest 448, no infinities; what is larger becomes 448.
 * int8, int4: symmetric, number = code * factor with codes to 127 and 7. The factor is (largest magnitude) / 127 or / 7 rounded to
 * bf16: then code * factor is exact in f32 and rounding twice is rounding once.
 */
import { DTYPE_BYTES, type KvDtype } from './descriptor.ts';
import { kernels, TABLE } from './kernels.ts';

/** Largest code of a type with factors. */
export const LARGEST_CODE = { int8: 127, int4: 7 } as const;
/** Rows whose numbers are all smaller have the factor of this magnitude: a division by zero is not a number. */
export const LEAST_MAGNITUDE = 2 ** -100;

/** Bits of the least magnitude. */
const LEAST_BITS = (127 - 100) << 23;

/** Value of each f8e4m3 byte. */
const F8_VALUES = Float32Array.from({ length: 256 }, (_, byte) => {
  const sign = byte & 0x80 ? -1 : 1;
  const exponent = (byte >>> 3) & 15;
  const mantissa = byte & 7;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return sign * (exponent === 0 ? (mantissa / 8) * 2 ** -6 : (1 + mantissa / 8) * 2 ** (exponent - 7));
});

/** What rows of numbers look like. */
export interface RowFormat {
  dtype: KvDtype;
  /** Of one head of one token. */
  width: number;
  /** f8e4m3's factor. */
  scale: number;
}

/** Addresses in the kernels' memory: numbers and factors as stored, one factor a row, and the same numbers as f32. */
export interface NumberPlaces {
  numbers: number;
  factors: number;
  values: number;
}

/** Numbers to f32: `rows` rows of `width` numbers each. */
export function decodeNumbers(
  { dtype, width, scale }: RowFormat,
  { numbers, factors, values }: NumberPlaces,
  rows: number,
): void {
  const { run } = kernels();
  const count = rows * width;
  switch (dtype) {
    case 'f32':
      return run.copyRuns(numbers, values, 1, count * DTYPE_BYTES.f32, 0, 0);
    case 'bf16':
      return run.widenBf16(numbers, values, count);
    case 'f16':
      return run.widenF16(numbers, values, count);
    case 'f8e4m3':
      return run.widenBytes(numbers, values, count, f8Table(scale));
    case 'int8':
      return run.widenInt8(numbers, factors, values, rows, width);
    case 'int4':
      return run.widenInt4(numbers, factors, values, rows, width);
    default:
      dtype satisfies never;
  }
}

/** Numbers from f32; inverse of decodeNumbers where the type can hold them. `spare`: an area as large as that of `values`, or the same. */
export function encodeNumbers(
  { dtype, width, scale }: RowFormat,
  { numbers, factors, values }: NumberPlaces,
  rows: number,
  spare: number,
): void {
  const { run } = kernels();
  const count = rows * width;
  switch (dtype) {
    case 'f32':
      return run.copyRuns(values, numbers, 1, count * DTYPE_BYTES.f32, 0, 0);
    case 'bf16':
      return run.narrowBf16(values, numbers, count);
    case 'f16':
      return run.narrowF16(values, numbers, count);
    case 'f8e4m3':
      if (scale === 1) return run.narrowF8(values, numbers, count);
      run.divide(values, spare, count, scale);
      return run.narrowF8(spare, numbers, count);
    case 'int8':
      return run.narrowInt8(values, factors, numbers, rows, width, LEAST_BITS);
    case 'int4':
      return run.narrowInt4(values, factors, numbers, rows, width, LEAST_BITS);
    default:
      dtype satisfies never;
  }
}

let tableScale = Number.NaN;

/** Address of every f8e4m3 byte's number times its factor; those of the last factor are kept. */
function f8Table(scale: number): number {
  if (tableScale !== scale) {
    const scaled = F8_VALUES.map((value) => value * scale);
    kernels().put(new Uint8Array(scaled.buffer), TABLE);
    tableScale = scale;
  }
  return TABLE;
}
