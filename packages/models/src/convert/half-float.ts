/** f32 bit pattern of every f16 bit pattern (IEEE 754-2008 binary16), made on first use: 256 KiB. */
let table: Uint32Array<ArrayBuffer> | undefined;

function widenHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  let exponent = (half >> 10) & 0x1f;
  let mantissa = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0;
  if (exponent === 0) {
    if (mantissa === 0) return sign >>> 0;
    exponent = 1; // subnormal: shift until the leading one appears
    while ((mantissa & 0x400) === 0) {
      mantissa <<= 1;
      exponent--;
    }
    mantissa &= 0x3ff;
  }
  return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
}

/** Bits of the f32 equal to each f16, indexed by the f16's bits. */
export function halfToFloatBits(): Uint32Array<ArrayBuffer> {
  table ??= Uint32Array.from({ length: 65_536 }, (_, half) => widenHalf(half));
  return table;
}

let floats: Float32Array<ArrayBuffer> | undefined;

/** The f32 value of each f16, indexed by the f16's bits. */
export function halfToFloat(): Float32Array<ArrayBuffer> {
  return (floats ??= new Float32Array(halfToFloatBits().buffer));
}
