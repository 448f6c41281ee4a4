/**
 * safetensors: u64 little-endian length of a JSON header, the header {name: {dtype, shape, data_offsets: [begin, end]}}, then data.
 * Format: github.com/huggingface/safetensors: tensors cover the data without holes or overlaps. Everything is checked against
 * the file's size before it is used.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { regularFile } from './small-file.ts';
import { type LocatedTensor, overlapping } from './tensor-info.ts';

const MAX_HEADER_BYTES = 25_000_000;
const PREFIX_BYTES = 8;
const DTYPE_BYTES: ReadonlyMap<string, number> = new Map([
  ['F64', 8],
  ['F32', 4],
  ['F16', 2],
  ['BF16', 2],
  ['I64', 8],
  ['I32', 4],
  ['I16', 2],
  ['I8', 1],
  ['U8', 1],
  ['U16', 2],
  ['U32', 4],
  ['U64', 8],
  ['BOOL', 1],
  ['F8_E4M3', 1],
  ['F8_E5M2', 1],
  ['F8_E8M0', 1],
]);

const entrySchema = z.object({
  dtype: z.string().max(32),
  shape: z.array(z.number().int().nonnegative()).max(16),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});

/** Reads and checks a file's header. @throws ServiceError `file_unreadable` or `malformed_file` naming file and tensor. */
export function readSafetensorsHeader(path: string): LocatedTensor[] {
  const bad = (what: string): never => fail('invalid_argument', 'malformed_file', `${path}: ${what}`);
  const fd = open(path);
  try {
    const { size } = fstatSync(fd);
    if (size < PREFIX_BYTES) bad(`a file of ${size} bytes has no safetensors header`);
    const length = readFully(fd, Buffer.alloc(PREFIX_BYTES), 0, path).readBigUInt64LE();
    if (length > BigInt(MAX_HEADER_BYTES)) bad(`a header of ${length} bytes is over the limit of ${MAX_HEADER_BYTES}`);
    if (PREFIX_BYTES + Number(length) > size) bad(`a header of ${length} bytes does not fit into ${size}: truncated?`);
    const header = readFully(fd, Buffer.alloc(Number(length)), PREFIX_BYTES, path);
    return checkHeader(header.toString('utf8'), PREFIX_BYTES + header.length, size, bad);
  } finally {
    closeSync(fd);
  }
}

function open(path: string): number {
  regularFile(path);
  try {
    return openSync(path, 'r');
  } catch (cause) {
    fail('not_found', 'file_unreadable', `cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Fills `into` from `position`. @throws ServiceError `malformed_file` when the file ends before. */
function readFully<T extends Uint8Array>(fd: number, into: T, position: number, path: string): T {
  for (let done = 0; done < into.byteLength; ) {
    const got = readSync(fd, into, done, into.byteLength - done, position + done);
    if (got === 0) fail('invalid_argument', 'malformed_file', `${path} ended at ${position + done} while it was read`);
    done += got;
  }
  return into;
}

function checkHeader(text: string, dataStart: number, fileSize: number, bad: (what: string) => never): LocatedTensor[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    bad('the header is not JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return bad('the header is not a JSON object');
  const tensors = Object.entries(json)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => locate(name, value, dataStart, fileSize, bad));
  const clash = overlapping(tensors);
  if (clash !== undefined) bad(`tensors ${clash[0].name} and ${clash[1].name} overlap`);
  // With no overlap, the sizes add up to the data exactly when there is no hole; an entry given twice leaves one.
  const covered = tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0);
  if (covered !== fileSize - dataStart) {
    bad(
      `its ${tensors.length} tensors cover ${covered} of ${fileSize - dataStart} bytes of data: damaged, or an entry is there twice`,
    );
  }
  return tensors;
}

function locate(name: string, value: unknown, dataStart: number, fileSize: number, bad: (what: string) => never): LocatedTensor {
  const entry = entrySchema.safeParse(value);
  if (!entry.success) return bad(`tensor ${name}: ${z.prettifyError(entry.error)}`);
  const { dtype, shape } = entry.data;
  const [begin, end] = entry.data.data_offsets;
  const width = DTYPE_BYTES.get(dtype);
  if (width === undefined) return bad(`tensor ${name} has the unknown type ${dtype}`);
  const byteLength = shape.reduce((product, dim) => product * dim, 1) * width;
  if (!Number.isSafeInteger(byteLength) || end - begin !== byteLength) {
    return bad(`tensor ${name}: ${dtype} [${shape.join(', ')}] takes ${byteLength} bytes, its offsets span ${end - begin}`);
  }
  if (dataStart + end > fileSize)
    return bad(`tensor ${name} ends at ${dataStart + end}, past the end of the file at ${fileSize}: truncated?`);
  return { name, type: dtype, shape, byteLength, fileOffset: dataStart + begin };
}

/**
 * Reads one small tensor of a file into memory: reference data, not weights.
 * @throws ServiceError `missing_tensor` or `unsupported_format` when it is absent or of another type.
 */
export function readTensor(path: string, name: string, type: string): { shape: readonly number[]; bytes: Uint8Array } {
  const found = readSafetensorsHeader(path).find((tensor) => tensor.name === name);
  if (found === undefined) fail('invalid_argument', 'missing_tensor', `${path}: the tensor ${name} is missing`);
  if (found.type !== type)
    fail('invalid_argument', 'unsupported_format', `${path}: ${name} is ${found.type}; ${type} is expected`);
  const fd = open(path);
  try {
    // A buffer of its own is aligned for every element type.
    const bytes = readFully(fd, new Uint8Array(new ArrayBuffer(found.byteLength)), found.fileOffset, path);
    return { shape: found.shape, bytes };
  } finally {
    closeSync(fd);
  }
}
