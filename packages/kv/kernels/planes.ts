/**
 * Byte planes of numbers that were rotated left by one bit (src/plane-split.ts). Sixteen numbers at a time: up to fifteen more
 * than `bytes` says are read and written.
 */

/** 2-byte numbers -> their low and high bytes. */
export function split2(from: usize, low: usize, high: usize, bytes: usize): void {
  for (const end = from + bytes; from < end; from += 32) {
    const a = rotate2(v128.load(from));
    const b = rotate2(v128.load(from, 16));
    v128.store(low, v128.shuffle<u8>(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
    v128.store(high, v128.shuffle<u8>(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
    low += 16;
    high += 16;
  }
}

/** Inverse of split2. */
export function join2(low: usize, high: usize, to: usize, bytes: usize): void {
  for (const end = to + bytes; to < end; to += 32) {
    const a = v128.load(low);
    const b = v128.load(high);
    v128.store(to, unrotate2(v128.shuffle<u8>(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)));
    v128.store(to, unrotate2(v128.shuffle<u8>(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)), 16);
    low += 16;
    high += 16;
  }
}

/** 4-byte numbers -> four planes, `stride` bytes apart. */
export function split4(from: usize, planes: usize, stride: usize, bytes: usize): void {
  for (const end = from + bytes; from < end; from += 64) {
    const a = rotate4(v128.load(from));
    const b = rotate4(v128.load(from, 16));
    const c = rotate4(v128.load(from, 32));
    const d = rotate4(v128.load(from, 48));
    // the low, then the high halves
    const ab = v128.shuffle<u8>(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    const cd = v128.shuffle<u8>(c, d, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    const AB = v128.shuffle<u8>(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
    const CD = v128.shuffle<u8>(c, d, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
    v128.store(planes, v128.shuffle<u8>(ab, cd, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
    v128.store(planes + stride, v128.shuffle<u8>(ab, cd, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
    v128.store(planes + 2 * stride, v128.shuffle<u8>(AB, CD, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
    v128.store(planes + 3 * stride, v128.shuffle<u8>(AB, CD, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
    planes += 16;
  }
}

/** Inverse of split4. */
export function join4(planes: usize, stride: usize, to: usize, bytes: usize): void {
  for (const end = to + bytes; to < end; to += 64) {
    const p0 = v128.load(planes);
    const p1 = v128.load(planes + stride);
    const p2 = v128.load(planes + 2 * stride);
    const p3 = v128.load(planes + 3 * stride);
    // low and high halves of numbers 0 to 7, then 8 to 15
    const low = v128.shuffle<u8>(p0, p1, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const high = v128.shuffle<u8>(p2, p3, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const LOW = v128.shuffle<u8>(p0, p1, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const HIGH = v128.shuffle<u8>(p2, p3, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    v128.store(to, unrotate4(v128.shuffle<u16>(low, high, 0, 8, 1, 9, 2, 10, 3, 11)));
    v128.store(to, unrotate4(v128.shuffle<u16>(low, high, 4, 12, 5, 13, 6, 14, 7, 15)), 16);
    v128.store(to, unrotate4(v128.shuffle<u16>(LOW, HIGH, 0, 8, 1, 9, 2, 10, 3, 11)), 32);
    v128.store(to, unrotate4(v128.shuffle<u16>(LOW, HIGH, 4, 12, 5, 13, 6, 14, 7, 15)), 48);
    planes += 16;
  }
}

// @ts-ignore: decorator
@inline
function rotate2(a: v128): v128 {
  return v128.or(v128.shl<i16>(a, 1), v128.shr<u16>(a, 15));
}

// @ts-ignore: decorator
@inline
function unrotate2(a: v128): v128 {
  return v128.or(v128.shr<u16>(a, 1), v128.shl<i16>(a, 15));
}

// @ts-ignore: decorator
@inline
function rotate4(a: v128): v128 {
  return v128.or(v128.shl<i32>(a, 1), v128.shr<u32>(a, 31));
}

// @ts-ignore: decorator
@inline
function unrotate4(a: v128): v128 {
  return v128.or(v128.shr<u32>(a, 1), v128.shl<i32>(a, 31));
}
