/** A cursor over GGUF bytes (little-endian). Every length is checked against a limit and the bytes left before it is used. */
import { fail } from '@causeway/errors';

export type GgufValue = number | bigint | boolean | string | GgufValue[];

const LIMITS = {
  /** Bytes of a string value: chat templates are the longest. */
  string: 16 * 1024 * 1024,
  /** Bytes of a key, by the specification. */
  key: 65_535,
  /** Bytes of a tensor's name (the specification says 64). */
  name: 1024,
  /** Array elements of the whole file: the largest vocabularies and their merges are about a million. */
  elements: 16_000_000,
  /** ggml's GGML_MAX_DIMS. */
  dims: 4,
  depth: 4,
} as const;

/** Bytes that a value of each type takes at least, by GGUF's type number. */
const LEAST_BYTES: readonly number[] = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];

/** A tensor's entry as the file has it: innermost dimension first, offset from the start of the data. */
export interface GgufEntry {
  name: string;
  dims: number[];
  type: number;
  offset: number;
}

// A token may be a byte order mark: it belongs to the string.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Reads values in file order; stateful: `position` is the next byte. Every method throws ServiceError `malformed_file`. */
export class GgufReader {
  readonly path: string;
  position = 0;
  #elements = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(path: string, bytes: Uint8Array) {
    this.path = path;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes of the file. */
  get length(): number {
    return this.#bytes.byteLength;
  }

  bad(what: string): never {
    return fail('invalid_argument', 'malformed_file', `${this.path}: ${what}`);
  }

  u32(what: string): number {
    return this.#view.getUint32(this.#take(4, what), true);
  }

  /** A u64 of at most `limit`. */
  count(what: string, limit: number): number {
    const value = this.#view.getBigUint64(this.#take(8, what), true);
    if (value > BigInt(limit)) this.bad(`${what} is ${value}, over the limit of ${limit}`);
    return Number(value);
  }

  /** A u64 count of things that take at least `least` bytes each: one that the file cannot hold is refused. */
  countOf(what: string, limit: number, least: number): number {
    const count = this.count(what, limit);
    const left = this.length - this.position;
    if (count * least > left)
      this.bad(`${what} is ${count}; the ${left} bytes left hold at most ${Math.floor(left / least)}: truncated?`);
    return count;
  }

  key(what: string): string {
    return this.#string(what, LIMITS.key);
  }

  entry(index: number): GgufEntry {
    const name = this.#string(`name of tensor ${index}`, LIMITS.name);
    const rank = this.u32(`rank of ${name}`);
    if (rank > LIMITS.dims) this.bad(`tensor ${name} has ${rank} dimensions; the limit is ${LIMITS.dims}`);
    const dims: number[] = [];
    for (let i = 0; i < rank; i++) dims.push(this.count(`dimension ${i} of ${name}`, Number.MAX_SAFE_INTEGER));
    const type = this.u32(`type of ${name}`);
    return { name, dims, type, offset: this.count(`offset of ${name}`, Number.MAX_SAFE_INTEGER) };
  }

  /** A metadata value of the given type number. */
  value(key: string, type: number, depth = 0): GgufValue {
    const view = this.#view;
    switch (type) {
      case 0:
        return view.getUint8(this.#take(1, key));
      case 1:
        return view.getInt8(this.#take(1, key));
      case 2:
        return view.getUint16(this.#take(2, key), true);
      case 3:
        return view.getInt16(this.#take(2, key), true);
      case 4:
        return view.getUint32(this.#take(4, key), true);
      case 5:
        return view.getInt32(this.#take(4, key), true);
      case 6:
        return view.getFloat32(this.#take(4, key), true);
      case 7:
        return view.getUint8(this.#take(1, key)) !== 0;
      case 8:
        return this.#string(key, LIMITS.string);
      case 9:
        return this.#array(key, depth);
      case 10:
        return view.getBigUint64(this.#take(8, key), true);
      case 11:
        return view.getBigInt64(this.#take(8, key), true);
      case 12:
        return view.getFloat64(this.#take(8, key), true);
      default:
        return this.bad(`${key} has the unknown value type ${type}`);
    }
  }

  #array(key: string, depth: number): GgufValue[] {
    if (depth >= LIMITS.depth) this.bad(`${key} nests arrays deeper than ${LIMITS.depth}`);
    const type = this.u32(`element type of ${key}`);
    const least = LEAST_BYTES[type] ?? this.bad(`${key} has elements of the unknown value type ${type}`);
    const count = this.countOf(`length of ${key}`, LIMITS.elements, least);
    this.#elements += count;
    if (this.#elements > LIMITS.elements) this.bad(`its arrays have more than ${LIMITS.elements} elements together`);
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(key, type, depth + 1));
    return values;
  }

  #string(what: string, limit: number): string {
    const length = this.count(`length of ${what}`, limit);
    const at = this.#take(length, what);
    return decoder.decode(this.#bytes.subarray(at, at + length));
  }

  #take(bytes: number, what: string): number {
    const at = this.position;
    if (at + bytes > this.length) this.bad(`${what} needs ${bytes} bytes at ${at}; the file has ${this.length}: truncated?`);
    this.position = at + bytes;
    return at;
  }
}
