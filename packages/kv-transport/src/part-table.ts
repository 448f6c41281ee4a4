/** All parts of a transfer in object, then part order: where each lies in the object table and in the linear run of raw bytes. */
import { fail } from '@causeway/errors';
import {
  checkRange,
  type KvDescriptor,
  MAX_OBJECTS,
  rangeBytes,
  type Segment,
  segments,
  sliceSegments,
  type TokensRange,
} from '@causeway/kv';

/** Most parts of one transfer. */
export const MAX_PARTS = 1 << 20;
/** Parts are cut at multiples of this, so that no number is cut in two. */
export const PART_ALIGNMENT = 64;

export interface PartLocation {
  /** Index over all parts. */
  index: number;
  object: number;
  part: number;
  /** First raw byte of the part inside its object. */
  objectOffset: number;
  length: number;
  /** First raw byte after the part, over all objects. */
  end: number;
}

export class PartTable {
  readonly descriptor: KvDescriptor;
  readonly objects: readonly TokensRange[];
  readonly partBytes: number;
  /** Raw bytes of all objects. */
  readonly totalBytes: number;
  readonly partCount: number;
  readonly #objectBytes: number[] = [];
  readonly #objectStart: number[] = [];
  readonly #firstPart: number[] = [];
  #lastRuns: { object: number; runs: Segment[] } | undefined;

  /** @throws ServiceError `malformed_frame` when an object or the part size is out of bounds */
  constructor(descriptor: KvDescriptor, objects: readonly TokensRange[], partBytes: number) {
    if (objects.length < 1 || objects.length > MAX_OBJECTS) bad(`${objects.length} objects; 1 to ${MAX_OBJECTS} are allowed`);
    if (!Number.isSafeInteger(partBytes) || partBytes < PART_ALIGNMENT || partBytes % PART_ALIGNMENT !== 0) {
      bad(`parts of ${partBytes} bytes; they must be a positive multiple of ${PART_ALIGNMENT}`);
    }
    this.descriptor = descriptor;
    this.objects = objects;
    this.partBytes = partBytes;
    let bytes = 0;
    let parts = 0;
    for (const object of objects) {
      checkRange(descriptor, object);
      const size = rangeBytes(descriptor, object);
      this.#objectBytes.push(size);
      this.#objectStart.push(bytes);
      this.#firstPart.push(parts);
      bytes += size;
      parts += Math.ceil(size / partBytes);
    }
    if (!Number.isSafeInteger(bytes) || parts > MAX_PARTS)
      bad(`${bytes} bytes in ${parts} parts; ${MAX_PARTS} parts are the limit`);
    this.totalBytes = bytes;
    this.partCount = parts;
  }

  /** The part `index` of all. */
  at(index: number): PartLocation {
    let low = 0;
    let high = this.objects.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#firstPart[middle] as number) <= index) low = middle;
      else high = middle - 1;
    }
    return this.#locate(low, index - (this.#firstPart[low] as number));
  }

  /** The part with these indices; undefined when there is none. */
  find(object: number, part: number): PartLocation | undefined {
    const size = this.#objectBytes[object];
    if (size === undefined || part * this.partBytes >= size) return undefined;
    return this.#locate(object, part);
  }

  /** Where the part's bytes lie in the pages of the sequence, in wire order. */
  runs(part: PartLocation): Segment[] {
    if (this.#lastRuns?.object !== part.object) {
      this.#lastRuns = { object: part.object, runs: segments(this.descriptor, this.objects[part.object] as TokensRange) };
    }
    return sliceSegments(this.#lastRuns.runs, part.objectOffset, part.length);
  }

  /** First raw byte of object `index`, over all objects; all bytes when there is none. */
  start(index: number): number {
    return this.#objectStart[index] ?? this.totalBytes;
  }

  #locate(object: number, part: number): PartLocation {
    const objectOffset = part * this.partBytes;
    const length = Math.min(this.partBytes, (this.#objectBytes[object] as number) - objectOffset);
    return {
      index: (this.#firstPart[object] as number) + part,
      object,
      part,
      objectOffset,
      length,
      end: (this.#objectStart[object] as number) + objectOffset + length,
    };
  }
}

function bad(message: string): never {
  return fail('invalid_argument', 'malformed_frame', `object table: ${message}`);
}
