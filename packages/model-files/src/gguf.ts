/**
 * GGUF version 3: magic, version, counts, typed metadata, tensor table, aligned data; little-endian.
 * Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md. Counts, lengths and offsets are checked before anything is allocated.
 */
import { fail } from '@causeway/errors';
import type { LocatedTensor } from './safetensors.ts';

const MAGIC = 0x46554747;
const LIMITS = { tensors: 1_000_000, keys: 100_000, string: 64 * 1024 * 1024, array: 16_000_000, dims: 4, depth: 4 } as const;

/** ggml tensor types: name, elements and bytes of a block. Others are known by number only. */
const TENSOR_TYPES: Readonly<Record<number, readonly [name: string, elements: number, bytes: number]>> = {
  0: ['F32', 1, 4],
  1: ['F16', 1, 2],
  2: ['Q4_0', 32, 18],
  3: ['Q4_1', 32, 20],
  6: ['Q5_0', 32, 22],
  7: ['Q5_1', 32, 24],
  8: ['Q8_0', 32, 34],
  9: ['Q8_1', 32, 36],
  10: ['Q2_K', 256, 84],
  11: ['Q3_K', 256, 110],
  12: ['Q4_K', 256, 144],
  13: ['Q5_K', 256, 176],
  14: ['Q6_K', 256, 210],
  15: ['Q8_K', 256, 292],
  24: ['I8', 1, 1],
  25: ['I16', 1, 2],
  26: ['I32', 1, 4],
  27: ['I64', 1, 8],
  28: ['F64', 1, 8],
  30: ['BF16', 1, 2],
};

export type GgufValue = number | bigint | boolean | string | GgufValue[];
export interface GgufFile {
  metadata: ReadonlyMap<string, GgufValue>;
  /** Names and shapes as in the file, dimensions turned to outermost first. */
  tensors: LocatedTensor[];
}

/** Reads header and tensor table from the mapped file. @throws ServiceError `malformed_file`, `unsupported_format`. */
export function readGguf(path: string, file: Uint8Array): GgufFile {
  const reader = new Reader(path, file);
  if (reader.u32('magic') !== MAGIC) reader.bad('the file does not begin with "GGUF"');
  const version = reader.u32('version');
  if (version !== 3)
    fail('unimplemented', 'unsupported_format', `${path}: GGUF version ${version} is not supported; version 3 is`);
  const tensorCount = reader.count('tensor count', LIMITS.tensors);
  const keyCount = reader.count('metadata count', LIMITS.keys);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = reader.string(`key ${i}`);
    if (metadata.has(key)) reader.bad(`the key ${key} is there twice`);
    metadata.set(key, reader.value(key, reader.u32(key), 0));
  }
  const alignment = metadata.get('general.alignment') ?? 32;
  if (
    typeof alignment !== 'number' ||
    !Number.isInteger(alignment) ||
    alignment < 1 ||
    alignment > 65_536 ||
    (alignment & (alignment - 1)) !== 0
  ) {
    reader.bad(`an alignment of ${String(alignment)} is not a power of two up to 65536`);
  }
  const entries = Array.from({ length: tensorCount }, (_, i) => reader.tensor(i));
  const dataStart = Math.ceil(reader.position / (alignment as number)) * (alignment as number);
  return { metadata, tensors: placeTensors(reader, entries, dataStart, alignment as number) };
}

interface Entry {
  name: string;
  dims: number[];
  type: number;
  offset: number;
}

function placeTensors(reader: Reader, entries: readonly Entry[], dataStart: number, alignment: number): LocatedTensor[] {
  const seen = new Set<string>();
  return entries.map(({ name, dims, type, offset }) => {
    if (seen.has(name)) reader.bad(`the tensor ${name} is there twice`);
    seen.add(name);
    const known = TENSOR_TYPES[type];
    if (known === undefined) {
      return fail(
        'unimplemented',
        'unsupported_format',
        `${reader.path}: tensor ${name} has the type number ${type}, which is not known`,
      );
    }
    const [typeName, blockElements, blockBytes] = known;
    const elements = dims.reduce((product, dim) => product * dim, 1);
    const inner = dims[0] ?? 1;
    if (inner % blockElements !== 0)
      reader.bad(`tensor ${name}: rows of ${inner} are not whole ${typeName} blocks of ${blockElements}`);
    const byteLength = (elements / blockElements) * blockBytes;
    if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(byteLength))
      reader.bad(`tensor ${name}: [${dims.join(', ')}] is too large`);
    if (offset % alignment !== 0) reader.bad(`tensor ${name} begins at ${offset}, which is not aligned to ${alignment}`);
    const fileOffset = dataStart + offset;
    if (fileOffset + byteLength > reader.length) {
      reader.bad(`tensor ${name} ends at ${fileOffset + byteLength}, past the end of the file at ${reader.length}: truncated?`);
    }
    return { name, type: typeName, shape: [...dims].reverse(), byteLength, fileOffset };
  });
}

const decoder = new TextDecoder('utf-8');

class Reader {
  readonly path: string;
  position = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(path: string, bytes: Uint8Array) {
    this.path = path;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.#bytes.byteLength;
  }

  bad(what: string): never {
    return fail('invalid_argument', 'malformed_file', `${this.path}: ${what}`);
  }

  #take(bytes: number, what: string): number {
    const at = this.position;
    if (at + bytes > this.length) this.bad(`${what} needs ${bytes} bytes at ${at}; the file has ${this.length}: truncated?`);
    this.position = at + bytes;
    return at;
  }

  u32(what: string): number {
    return this.#view.getUint32(this.#take(4, what), true);
  }

  u64(what: string): bigint {
    return this.#view.getBigUint64(this.#take(8, what), true);
  }

  count(what: string, limit: number): number {
    const value = this.u64(what);
    if (value > BigInt(limit)) this.bad(`${what} is ${value}, over the limit of ${limit}`);
    return Number(value);
  }

  string(what: string): string {
    const length = this.count(`length of ${what}`, LIMITS.string);
    const at = this.#take(length, what);
    return decoder.decode(this.#bytes.subarray(at, at + length));
  }

  tensor(index: number): Entry {
    const name = this.string(`name of tensor ${index}`);
    const rank = this.u32(`rank of ${name}`);
    if (rank > LIMITS.dims) this.bad(`tensor ${name} has ${rank} dimensions; the limit is ${LIMITS.dims}`);
    const dims = Array.from({ length: rank }, () => this.count(`dimension of ${name}`, Number.MAX_SAFE_INTEGER));
    const type = this.u32(`type of ${name}`);
    return { name, dims, type, offset: this.count(`offset of ${name}`, Number.MAX_SAFE_INTEGER) };
  }

  value(key: string, type: number, depth: number): GgufValue {
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
        return this.string(key);
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
    const type = this.u32(key);
    const count = this.count(`length of ${key}`, LIMITS.array);
    // Every element takes a byte or more: a lying count is refused before the array grows.
    if (count > this.length - this.position)
      this.bad(`${key} claims ${count} elements; only ${this.length - this.position} bytes are left`);
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(key, type, depth + 1));
    return values;
  }
}
