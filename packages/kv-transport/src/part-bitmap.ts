import { fail } from '@causeway/errors';

/** Longest bitmap of one Missing, bytes: with any max_payload it is one message; what lies beyond comes with the next. */
const WINDOW_BYTES = 512;

/** Which parts are in place: one bit each, least significant bit of byte 0 first. */
export class PartBitmap {
  readonly size: number;
  readonly bytes: Uint8Array;
  #count = 0;
  #contiguous = 0;

  constructor(size: number) {
    this.size = size;
    this.bytes = new Uint8Array((size + 7) >>> 3);
  }

  /** Parts in place. */
  get count(): number {
    return this.#count;
  }

  get complete(): boolean {
    return this.#count === this.size;
  }

  /** Number of leading parts that are all in place. */
  get contiguous(): number {
    while (this.#contiguous < this.size && this.has(this.#contiguous)) this.#contiguous++;
    return this.#contiguous;
  }

  has(index: number): boolean {
    return ((this.bytes[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }

  /** What is known around the first gap: the bitmap from part `firstPart` on; everything before it is in place. */
  window(): { firstPart: number; have: Uint8Array } {
    const first = this.contiguous >>> 3;
    return { firstPart: 8 * first, have: this.bytes.subarray(first, first + WINDOW_BYTES) };
  }

  add(index: number): void {
    if (this.has(index)) return;
    this.bytes[index >>> 3] = (this.bytes[index >>> 3] ?? 0) | (1 << (index & 7));
    this.#count++;
  }
}

/**
 * What a peer's bitmap says of the parts from `firstPart` on.
 * @throws ServiceError `malformed_frame` when it says something of parts that there are not
 */
export function readBitmap(firstPart: number, have: Uint8Array, partCount: number): (index: number) => boolean {
  if (firstPart > partCount || have.length > (partCount - firstPart + 7) >>> 3) {
    fail('invalid_argument', 'malformed_frame', `a bitmap of ${have.length} bytes from part ${firstPart} for ${partCount} parts`);
  }
  return (index) => ((have[(index - firstPart) >>> 3] ?? 0) & (1 << ((index - firstPart) & 7))) !== 0;
}
