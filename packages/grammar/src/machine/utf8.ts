/** Code points as bytes. */

/** Largest code points of one, two, three bytes. */
const ENDS = [0x7f, 0x7ff, 0xffff, 0x10ffff] as const;
const SURROGATES = [0xd800, 0xdfff] as const;

/** A run of byte ranges, one for each byte of a character. */
export type ByteRanges = readonly (readonly [low: number, high: number])[];

/** The UTF-8 of every code point from `low` to `high`, surrogates left out, as runs of byte ranges. */
export function utf8Ranges(low: number, high: number): ByteRanges[] {
  if (low > high) return [];
  const [first, last] = SURROGATES;
  if (low <= last && high >= first) return [...utf8Ranges(low, first - 1), ...utf8Ranges(last + 1, high)];
  for (const end of ENDS) if (low <= end && high > end) return [...utf8Ranges(low, end), ...utf8Ranges(end + 1, high)];
  return sameLength(low, high);
}

/** Both ends have equally many bytes. Splits until every byte but the last ones is fixed or runs over all its values. */
function sameLength(low: number, high: number): ByteRanges[] {
  for (let bits = 6; bits <= 18; bits += 6) {
    const mask = (1 << bits) - 1;
    if (low >> bits === high >> bits) break;
    if ((low & mask) !== 0) return [...sameLength(low, low | mask), ...sameLength((low | mask) + 1, high)];
    if ((high & mask) !== mask) return [...sameLength(low, (high & ~mask) - 1), ...sameLength(high & ~mask, high)];
  }
  const a = encode(low);
  const b = encode(high);
  return [a.map((byte, i) => [byte, b[i] as number] as const)];
}

/** UTF-8 of one code point. */
function encode(point: number): number[] {
  if (point <= ENDS[0]) return [point];
  const tail = (shift: number): number => 0x80 | ((point >> shift) & 0x3f);
  if (point <= ENDS[1]) return [0xc0 | (point >> 6), tail(0)];
  if (point <= ENDS[2]) return [0xe0 | (point >> 12), tail(6), tail(0)];
  return [0xf0 | (point >> 18), tail(12), tail(6), tail(0)];
}
