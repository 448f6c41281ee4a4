/** All parts of a transfer in object, then part order: where each lies in the object table and in the linear run of raw bytes. */
import { fail } from '@causeway/errors';
import { finalLayer, type KvDescriptor, type KvObject, MAX_OBJECTS, ObjectGeometry } from '@causeway/kv';

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
  readonly objects: readonly KvObject[];
  readonly partBytes: number;
  /** Raw bytes of all objects. */
  readonly totalBytes: number;
  readonly partCount: number;
  readonly #geometry: ObjectGeometry;
  readonly #objectBytes: number[] = [];
  readonly #objectStart: number[] = [];
  readonly #firstPart: number[] = [];
  /** Windows and states: first raw byte, and the least number of leading layers that must be finished for this and those before. */
  readonly #finals: { start: number; layers: number }[] = [];

  /** @throws ServiceError `malformed_frame` when an object or the part size is out of bounds */
  constructor(descriptor: KvDescriptor, objects: readonly KvObject[], partBytes: number) {
    if (objects.length < 1 || objects.length > MAX_OBJECTS) bad(`${objects.length} objects; 1 to ${MAX_OBJECTS} are allowed`);
    if (!Number.isSafeInteger(partBytes) || partBytes < PART_ALIGNMENT || partBytes % PART_ALIGNMENT !== 0) {
      bad(`parts of ${partBytes} bytes; they must be a positive multiple of ${PART_ALIGNMENT}`);
    }
    this.descriptor = descriptor;
    this.objects = objects;
    this.partBytes = partBytes;
    this.#geometry = new ObjectGeometry(descriptor);
    let bytes = 0;
    let parts = 0;
    for (const object of objects) {
      const size = this.#geometry.bytes(object);
      const layer = finalLayer(object);
      if (layer !== undefined) this.#finals.push({ start: bytes, layers: Math.max(layer + 1, this.#finals.at(-1)?.layers ?? 0) });
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

  /** What a part is a piece of. */
  object({ object }: Pick<PartLocation, 'object'>): KvObject {
    return this.objects[object] as KvObject;
  }

  /** Bytes of one number of a part. */
  elementBytes(part: Pick<PartLocation, 'object'>): 1 | 2 | 4 {
    return this.#geometry.elementBytes(this.object(part));
  }

  /** Parts of object `index`. */
  partsOf(index: number): number {
    return Math.ceil((this.#objectBytes[index] ?? 0) / this.partBytes);
  }

  /** First raw byte of object `index`, over all objects; all bytes when there is none. */
  start(index: number): number {
    return this.#objectStart[index] ?? this.totalBytes;
  }

  /** Leading layers that must have run their last chunk before the first `bytes` raw bytes may be offered. */
  finishedLayers(bytes: number): number {
    return this.#finals.findLast(({ start }) => start < bytes)?.layers ?? 0;
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
