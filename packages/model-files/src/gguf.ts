/**
 * GGUF versions 2 and 3: magic, version, counts, typed metadata, tensor table, aligned data; little-endian. Version 3 differs from 2
 * only in that files may be big-endian. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
 * Counts, lengths and offsets are checked before anything is allocated.
 */
import { fail } from '@causeway/errors';
import { GgufReader, type GgufEntry, type GgufValue } from './gguf-reader.ts';
import { type LocatedTensor, overlapping } from './tensor-info.ts';

const MAGIC = 0x46554747;
const VERSIONS: readonly number[] = [2, 3];
/** Version 3 as a big-endian file has it. */
const VERSION_SWAPPED = 0x0300_0000;
const MOST = { tensors: 1_000_000, keys: 100_000, alignment: 65_536 } as const;
/** Bytes that a tensor's entry and a key with its value take at least. */
const LEAST = { entry: 24, pair: 13 } as const;
const DEFAULT_ALIGNMENT = 32;

/** ggml tensor types: name, elements and bytes of a block (ggml-common.h). */
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
  16: ['IQ2_XXS', 256, 66],
  17: ['IQ2_XS', 256, 74],
  18: ['IQ3_XXS', 256, 98],
  19: ['IQ1_S', 256, 50],
  20: ['IQ4_NL', 32, 18],
  21: ['IQ3_S', 256, 110],
  22: ['IQ2_S', 256, 82],
  23: ['IQ4_XS', 256, 136],
  24: ['I8', 1, 1],
  25: ['I16', 1, 2],
  26: ['I32', 1, 4],
  27: ['I64', 1, 8],
  28: ['F64', 1, 8],
  29: ['IQ1_M', 256, 56],
  30: ['BF16', 1, 2],
  34: ['TQ1_0', 256, 54],
  35: ['TQ2_0', 256, 66],
  39: ['MXFP4', 32, 17],
};

export interface GgufFile {
  metadata: ReadonlyMap<string, GgufValue>;
  /** Names as in the file, dimensions turned to outermost first. A type of unknown size is listed with byteLength 0. */
  tensors: LocatedTensor[];
}

/** Reads header and tensor table from the mapped file. @throws ServiceError `malformed_file`, `unsupported_format`. */
export function readGguf(path: string, file: Uint8Array): GgufFile {
  const reader = new GgufReader(path, file);
  if (reader.u32('magic') !== MAGIC) reader.bad('the file does not begin with "GGUF"');
  checkVersion(path, reader.u32('version'));
  const tensorCount = reader.countOf('tensor count', MOST.tensors, LEAST.entry);
  const keyCount = reader.countOf('metadata count', MOST.keys, LEAST.pair);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = reader.key(`key ${i}`);
    if (metadata.has(key)) reader.bad(`the key ${key} is there twice`);
    metadata.set(key, reader.value(key, reader.u32(`type of ${key}`)));
  }
  const alignment = alignmentOf(reader, metadata.get('general.alignment'));
  const entries: GgufEntry[] = [];
  for (let i = 0; i < tensorCount; i++) entries.push(reader.entry(i));
  const dataStart = Math.ceil(reader.position / alignment) * alignment;
  const tensors = placeTensors(reader, entries, dataStart, alignment);
  const clash = overlapping(tensors);
  if (clash !== undefined) reader.bad(`the tensors ${clash[0].name} and ${clash[1].name} overlap`);
  return { metadata, tensors };
}

function checkVersion(path: string, version: number): void {
  if (VERSIONS.includes(version)) return;
  const what = version === VERSION_SWAPPED ? 'a big-endian GGUF file' : `GGUF version ${version}`;
  fail(
    'unimplemented',
    'unsupported_format',
    `${path}: ${what} is not supported; little-endian versions ${VERSIONS.join(' and ')} are`,
  );
}

function alignmentOf(reader: GgufReader, value: GgufValue | undefined): number {
  if (value === undefined) return DEFAULT_ALIGNMENT;
  const usable = typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MOST.alignment;
  if (!usable || (value & (value - 1)) !== 0) {
    return reader.bad(`an alignment of ${String(value).slice(0, 40)} is not a power of two up to ${MOST.alignment}`);
  }
  return value;
}

function placeTensors(reader: GgufReader, entries: readonly GgufEntry[], dataStart: number, alignment: number): LocatedTensor[] {
  const seen = new Set<string>();
  return entries.map(({ name, dims, type, offset }) => {
    if (seen.has(name)) reader.bad(`the tensor ${name} is there twice`);
    seen.add(name);
    if (offset % alignment !== 0) reader.bad(`tensor ${name} begins at ${offset}, which is not aligned to ${alignment}`);
    const fileOffset = dataStart + offset;
    const [typeName, byteLength] = storedAs(reader, name, dims, type);
    if (fileOffset + byteLength > reader.length) {
      reader.bad(`tensor ${name} ends at ${fileOffset + byteLength}, past the end of the file at ${reader.length}: truncated?`);
    }
    return { name, type: typeName, shape: [...dims].reverse(), byteLength, fileOffset };
  });
}

/** Name of a tensor's type and its bytes; a type that is not known has no size and is refused only where it is needed. */
function storedAs(reader: GgufReader, name: string, dims: readonly number[], type: number): [name: string, byteLength: number] {
  const known = TENSOR_TYPES[type];
  if (known === undefined) return [`ggml type ${type}`, 0];
  const [typeName, blockElements, blockBytes] = known;
  const elements = dims.reduce((product, dim) => product * dim, 1);
  const inner = dims[0] ?? 1;
  if (inner % blockElements !== 0)
    reader.bad(`tensor ${name}: rows of ${inner} are not whole ${typeName} blocks of ${blockElements}`);
  const byteLength = (elements / blockElements) * blockBytes;
  if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(byteLength))
    reader.bad(`tensor ${name}: [${dims.join(', ')}] is too large`);
  return [typeName, byteLength];
}

/** Refuses a part of a model that was split over files. @throws ServiceError `unsupported_format`. */
export function refuseSplit(path: string, file: GgufFile): void {
  const parts = file.metadata.get('split.count');
  if (typeof parts === 'number' && parts > 1) {
    fail(
      'unimplemented',
      'unsupported_format',
      `${path} is one of ${parts} parts of a split GGUF, which is not supported; merge them (llama-gguf-split --merge)`,
    );
  }
}
