/** Codes of int8 and int4 with a factor for each row <-> f32 (src/number-format.ts). */

/** Constants of vectors lie in memory: V8 makes others anew in every turn of a loop, which takes longer than its work. */
const NIBBLE = memory.data<u32>([15, 15, 15, 15], 16);
const MAGNITUDE = memory.data<u32>([0x7fff_ffff, 0x7fff_ffff, 0x7fff_ffff, 0x7fff_ffff], 16);
/** Added to a number below 2^22, it leaves the nearest integer, ties to even, in the lowest bits of the f32 sum. */
const TO_INTEGER = memory.data<u32>([0x4b40_0000, 0x4b40_0000, 0x4b40_0000, 0x4b40_0000], 16);

/** `rows` rows of `width` codes, a multiple of 4. */
export function widenInt8(from: usize, factors: usize, to: usize, rows: usize, width: usize): void {
  for (; rows > 0; rows--) {
    const factor = f32x4.splat(load<f32>(factors));
    factors += 4;
    for (const end = from + width; from < end; from += 4) {
      const four = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from)));
      v128.store(to, v128.mul<f32>(f32x4.convert_i32x4_s(four), factor));
      to += 16;
    }
  }
}

/** `rows` rows of `width` codes, a multiple of 8: two to a byte, the first in the low half. */
export function widenInt4(from: usize, factors: usize, to: usize, rows: usize, width: usize): void {
  for (; rows > 0; rows--) {
    const factor = f32x4.splat(load<f32>(factors));
    factors += 4;
    for (const end = from + (width >> 1); from < end; from += 4) {
      const four = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(from)));
      const even = f32x4.convert_i32x4_s(v128.shr<i32>(v128.shl<i32>(four, 28), 28));
      const odd = f32x4.convert_i32x4_s(v128.shr<i32>(v128.shl<i32>(four, 24), 28));
      v128.store(to, v128.mul<f32>(v128.shuffle<u32>(even, odd, 0, 4, 1, 5), factor));
      v128.store(to, v128.mul<f32>(v128.shuffle<u32>(even, odd, 2, 6, 3, 7), factor), 16);
      to += 32;
    }
  }
}

/**
 * `rows` rows of `width` numbers, a multiple of 4. A factor is (largest magnitude, at least that of bits `least`) / 127, rounded
 * to bf16. No code needs clipping: a factor is at most 2^-9 of itself below what it was before, too little to reach the next code.
 */
export function narrowInt8(from: usize, factors: usize, to: usize, rows: usize, width: usize, least: i32): void {
  for (; rows > 0; rows--) {
    const factor = rowFactor(from, width, 127, least);
    store<f32>(factors, factor);
    factors += 4;
    for (const end = from + 4 * width; from < end; from += 16) {
      const code = codes(from, factor);
      v128.store32_lane(to, v128.shuffle<u8>(code, code, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12), 0);
      to += 4;
    }
  }
}

/** The same with codes to 7, two to a byte; `width` is a multiple of 8. */
export function narrowInt4(from: usize, factors: usize, to: usize, rows: usize, width: usize, least: i32): void {
  const mask = v128.load(NIBBLE);
  for (; rows > 0; rows--) {
    const factor = rowFactor(from, width, 7, least);
    store<f32>(factors, factor);
    factors += 4;
    for (const end = from + 4 * width; from < end; from += 32) {
      const a = v128.and(codes(from, factor), mask);
      const b = v128.and(codes(from + 16, factor), mask);
      const even = v128.shuffle<u32>(a, b, 0, 2, 4, 6);
      const odd = v128.shuffle<u32>(a, b, 1, 3, 5, 7);
      const byte = v128.or(even, v128.shl<i32>(odd, 4));
      v128.store32_lane(to, v128.shuffle<u8>(byte, byte, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12), 0);
      to += 4;
    }
  }
}

/** Four codes, in the lowest bits. */
// @ts-ignore: decorator
@inline
function codes(from: usize, factor: f32): v128 {
  return v128.add<f32>(v128.div<f32>(v128.load(from), f32x4.splat(factor)), v128.load(TO_INTEGER));
}

// @ts-ignore: decorator
@inline
function rowFactor(from: usize, width: usize, largest: f32, least: i32): f32 {
  const mask = v128.load(MAGNITUDE);
  // magnitudes are in the order of their bits
  let most = i32x4.splat(least);
  for (const end = from + 4 * width; from < end; from += 16) most = v128.max<i32>(most, v128.and(v128.load(from), mask));
  most = v128.max<i32>(most, v128.shuffle<u32>(most, most, 2, 3, 0, 1));
  most = v128.max<i32>(most, v128.shuffle<u32>(most, most, 1, 0, 3, 2));
  const bits = reinterpret<u32>(reinterpret<f32>(i32x4.extract_lane(most, 0)) / largest);
  if (bits > 0x7f80_0000) return reinterpret<f32>((bits & 0xffff_0000) | 0x40_0000);
  return reinterpret<f32>((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff_0000);
}
