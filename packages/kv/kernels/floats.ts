/**
 * Floating-point numbers of fewer bits <-> f32, to nearest, ties to even (src/number-format.ts). Several numbers at a time: up to
 * fifteen more than `count` says are read and written.
 */

/** Constants of vectors lie in memory: V8 makes others anew in every turn of a loop, which takes longer than its work. */
const ONE = memory.data<u32>([1, 1, 1, 1], 16);
const BELOW_HALF_BF16 = memory.data<u32>([0x7fff, 0x7fff, 0x7fff, 0x7fff], 16);
const MAGNITUDE = memory.data<u32>([0x7fff_ffff, 0x7fff_ffff, 0x7fff_ffff, 0x7fff_ffff], 16);
const INFINITY_BITS = memory.data<u32>([0x7f80_0000, 0x7f80_0000, 0x7f80_0000, 0x7f80_0000], 16);
const QUIET_BF16 = memory.data<u32>([0x40_0000, 0x40_0000, 0x40_0000, 0x40_0000], 16);
const SIGN_F16 = memory.data<u32>([0x8000, 0x8000, 0x8000, 0x8000], 16);
const TWO_TO_112 = memory.data<u32>([0x7780_0000, 0x7780_0000, 0x7780_0000, 0x7780_0000], 16);
const SPECIAL_F16 = memory.data<u32>([0x0f80_0000, 0x0f80_0000, 0x0f80_0000, 0x0f80_0000], 16);
const REBIAS_F16 = memory.data<u32>([0xc800_0fff, 0xc800_0fff, 0xc800_0fff, 0xc800_0fff], 16);
const HALF = memory.data<u32>([0x3f00_0000, 0x3f00_0000, 0x3f00_0000, 0x3f00_0000], 16);
const LEAST_F16 = memory.data<u32>([0x3880_0000, 0x3880_0000, 0x3880_0000, 0x3880_0000], 16);
const INFINITY_F16 = memory.data<u32>([0x7c00, 0x7c00, 0x7c00, 0x7c00], 16);
const ABOVE_F16 = memory.data<u32>([0x4780_0000, 0x4780_0000, 0x4780_0000, 0x4780_0000], 16);
const NAN_F16 = memory.data<u32>([0x7e00, 0x7e00, 0x7e00, 0x7e00], 16);
const SIGN = memory.data<u32>([0x8000_0000, 0x8000_0000, 0x8000_0000, 0x8000_0000], 16);
const BELOW_HALF_F8 = memory.data<u32>([0x7_ffff, 0x7_ffff, 0x7_ffff, 0x7_ffff], 16);
const REBIAS_F8 = memory.data<u32>([120 << 3, 120 << 3, 120 << 3, 120 << 3], 16);
const LARGEST_F8 = memory.data<u32>([0x7e, 0x7e, 0x7e, 0x7e], 16);
const BYTE = memory.data<u32>([0xff, 0xff, 0xff, 0xff], 16);
const LEAST_F8 = memory.data<u32>([0x3c80_0000, 0x3c80_0000, 0x3c80_0000, 0x3c80_0000], 16);
const NAN_F8 = memory.data<u32>([0x7f, 0x7f, 0x7f, 0x7f], 16);
const SIGN_F8 = memory.data<u32>([0x80, 0x80, 0x80, 0x80], 16);
const TIMES_512 = memory.data<u32>([0x4400_0000, 0x4400_0000, 0x4400_0000, 0x4400_0000], 16);
/** Added to a number below 2^22, it leaves the nearest integer, ties to even, in the lowest bits of the f32 sum. */
const TO_INTEGER = memory.data<u32>([0x4b40_0000, 0x4b40_0000, 0x4b40_0000, 0x4b40_0000], 16);

export function widenBf16(from: usize, to: usize, count: usize): void {
  const zero = i32x4.splat(0);
  for (const end = from + 2 * count; from < end; from += 16) {
    const a = v128.load(from);
    v128.store(to, v128.shuffle<u16>(zero, a, 0, 8, 1, 9, 2, 10, 3, 11));
    v128.store(to, v128.shuffle<u16>(zero, a, 4, 12, 5, 13, 6, 14, 7, 15), 16);
    to += 32;
  }
}

export function narrowBf16(from: usize, to: usize, count: usize): void {
  for (const end = from + 4 * count; from < end; from += 32) {
    const a = roundedBf16(v128.load(from));
    const b = roundedBf16(v128.load(from, 16));
    v128.store(to, v128.shuffle<u16>(a, b, 1, 3, 5, 7, 9, 11, 13, 15));
    to += 16;
  }
}

/** bf16 in the upper halves. A NaN stays one. */
// @ts-ignore: decorator
@inline
function roundedBf16(a: v128): v128 {
  const odd = v128.and(v128.shr<u32>(a, 16), v128.load(ONE));
  const rounded = v128.add<i32>(v128.add<i32>(a, v128.load(BELOW_HALF_BF16)), odd);
  const nan = v128.gt<i32>(v128.and(a, v128.load(MAGNITUDE)), v128.load(INFINITY_BITS));
  return v128.bitselect(v128.or(a, v128.load(QUIET_BF16)), rounded, nan);
}

export function widenF16(from: usize, to: usize, count: usize): void {
  for (const end = from + 2 * count; from < end; from += 8) {
    const a = v128.load_ext<u16>(from);
    const sign = v128.shl<i32>(v128.and(a, v128.load(SIGN_F16)), 16);
    const bits = v128.shl<i32>(v128.and(a, v128.load(BELOW_HALF_BF16)), 13);
    // times 2^112: the exponent's bias is 112 less; what has no exponent comes out right as well
    const finite = v128.mul<f32>(bits, v128.load(TWO_TO_112));
    const special = v128.or(bits, v128.load(INFINITY_BITS));
    const value = v128.bitselect(special, finite, v128.ge<i32>(bits, v128.load(SPECIAL_F16)));
    v128.store(to, v128.or(value, sign));
    to += 16;
  }
}

export function narrowF16(from: usize, to: usize, count: usize): void {
  for (const end = from + 4 * count; from < end; from += 32) {
    v128.store(to, v128.shuffle<u16>(roundedF16(v128.load(from)), roundedF16(v128.load(from, 16)), 0, 2, 4, 6, 8, 10, 12, 14));
    to += 16;
  }
}

/** f16 in the lower halves. */
// @ts-ignore: decorator
@inline
function roundedF16(a: v128): v128 {
  const size = v128.and(a, v128.load(MAGNITUDE));
  const odd = v128.and(v128.shr<u32>(size, 13), v128.load(ONE));
  const normal = v128.shr<u32>(v128.add<i32>(v128.add<i32>(size, v128.load(REBIAS_F16)), odd), 13);
  // a number below 2^-14 in the lowest bits of a sum with a half
  const tiny = v128.sub<i32>(v128.add<f32>(size, v128.load(HALF)), v128.load(HALF));
  let half = v128.bitselect(tiny, normal, v128.lt<i32>(size, v128.load(LEAST_F16)));
  half = v128.bitselect(v128.load(INFINITY_F16), half, v128.ge<i32>(size, v128.load(ABOVE_F16)));
  half = v128.bitselect(v128.load(NAN_F16), half, v128.gt<i32>(size, v128.load(INFINITY_BITS)));
  return v128.or(half, v128.shr<u32>(v128.and(a, v128.load(SIGN)), 16));
}

/** Bytes as what `table` (256 words) says. */
export function widenBytes(from: usize, to: usize, count: usize, table: usize): void {
  for (const end = from + count; from < end; from += 4) {
    const four = load<u32>(from);
    store<u32>(to, load<u32>(table + ((four & 0xff) << 2)));
    store<u32>(to, load<u32>(table + (((four >>> 8) & 0xff) << 2)), 4);
    store<u32>(to, load<u32>(table + (((four >>> 16) & 0xff) << 2)), 8);
    store<u32>(to, load<u32>(table + ((four >>> 24) << 2)), 12);
    to += 16;
  }
}

/** Divides f32 numbers by an f64 and rounds the quotients to f32. */
export function divide(from: usize, to: usize, count: usize, by: f64): void {
  const divisor = f64x2.splat(by);
  for (const end = from + 4 * count; from < end; from += 8) {
    const wide = f64x2.promote_low_f32x4(v128.load64_zero(from));
    v128.store64_lane(to, f32x4.demote_f64x2_zero(f64x2.div(wide, divisor)), 0);
    to += 8;
  }
}

/** f8e4m3: what is too large becomes the largest number, NaN stays NaN. */
export function narrowF8(from: usize, to: usize, count: usize): void {
  for (const end = from + 4 * count; from < end; from += 16) {
    const a = v128.load(from);
    const size = v128.and(a, v128.load(MAGNITUDE));
    const odd = v128.and(v128.shr<u32>(size, 20), v128.load(ONE));
    const rounded = v128.shr<u32>(v128.add<i32>(v128.add<i32>(size, v128.load(BELOW_HALF_F8)), odd), 20);
    const normal = v128.min<i32>(v128.sub<i32>(rounded, v128.load(REBIAS_F8)), v128.load(LARGEST_F8));
    // below 2^-6 numbers are multiples of 2^-9: the nearest integer is in the lowest bits of a sum with 3 * 2^22
    const sum = v128.add<f32>(v128.mul<f32>(size, v128.load(TIMES_512)), v128.load(TO_INTEGER));
    const tiny = v128.and(sum, v128.load(BYTE));
    let byte = v128.bitselect(tiny, normal, v128.lt<i32>(size, v128.load(LEAST_F8)));
    byte = v128.bitselect(v128.load(NAN_F8), byte, v128.gt<i32>(size, v128.load(INFINITY_BITS)));
    byte = v128.or(byte, v128.and(v128.shr<u32>(a, 24), v128.load(SIGN_F8)));
    const packed = v128.shuffle<u8>(byte, byte, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    v128.store32_lane(to, packed, 0);
    to += 4;
  }
}
