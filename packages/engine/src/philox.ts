/**
 * Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
 * (SC'11); constants and test vectors from their Random123 library. Counter-based: a number is a pure function of key and
 * counter, so any worker draws the same number for the same seed and position and no generator state ever travels.
 */

/** High 32 bits of the product of two unsigned 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/** Ten rounds over a 4-word counter with a 2-word key; all words unsigned 32-bit. */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0) >>> 0;
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * The uniform number in [0, 1) with 53 random bits that belongs to `seed` (its low 64 bits) and answer position `position`.
 * Key: low and high half of the seed. Counter: (position mod 2^32, position div 2^32, 0, 0). Bits: 27 of word 0, 26 of word 1.
 */
export function uniform(seed: bigint, position: number): number {
  const bits = BigInt.asUintN(64, seed);
  const key: [number, number] = [Number(bits & 0xffffffffn), Number(bits >> 32n)];
  const [w0, w1] = philox4x32([position >>> 0, Math.floor(position / 0x1_0000_0000) >>> 0, 0, 0], key);
  return ((w0 >>> 5) * 0x4000000 + (w1 >>> 6)) / 0x20000000000000;
}
