/**
 * safetensors: u64 little-endian length of a JSON header, the header {name: {dtype, shape, data_offsets: [begin, end]}}, then data.
 * Format: github.com/huggingface/safetensors. Everything is checked against the file's size before it is used.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { fail } from '@causeway/errors';
import { z } from 'zod';
import type { TensorInfo } from './checkpoint.ts';

const MAX_HEADER_BYTES = 25_000_000;
const DTYPE_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  U16: 2,
  U32: 4,
  U64: 8,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
};

const entrySchema = z.object({
  dtype: z.string(),
  shape: z.array(z.number().int().nonnegative()).max(16),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});

/** A tensor and where its bytes are in the file. */
export interface LocatedTensor extends TensorInfo {
  fileOffset: number;
}

/** Reads and checks a file's header. @throws ServiceError `file_unreadable` or `malformed_file` naming file and tensor. */
export function readSafetensorsHeader(path: string): LocatedTensor[] {
  const bad = (what: string): never => fail('invalid_argument', 'malformed_file', `${path}: ${what}`);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    fail('not_found', 'file_unreadable', `cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    const { size } = fstatSync(fd);
    const prefix = Buffer.alloc(8);
    if (size < 8 || readSync(fd, prefix, 0, 8, 0) < 8) bad(`a file of ${size} bytes has no safetensors header`);
    const length = prefix.readBigUInt64LE();
    if (length > BigInt(MAX_HEADER_BYTES)) bad(`a header of ${length} bytes is over the limit of ${MAX_HEADER_BYTES}`);
    if (8 + Number(length) > size) bad(`a header of ${length} bytes does not fit into ${size}: truncated?`);
    const header = Buffer.alloc(Number(length));
    readSync(fd, header, 0, header.length, 8);
    return checkHeader(header.toString('utf8'), 8 + header.length, size, bad);
  } finally {
    closeSync(fd);
  }
}

function checkHeader(text: string, dataStart: number, fileSize: number, bad: (what: string) => never): LocatedTensor[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    bad('the header is not JSON');
  }
  const table = z.record(z.string(), z.unknown()).safeParse(json);
  if (!table.success) return bad('the header is not a JSON object');
  const tensors: LocatedTensor[] = [];
  for (const [name, value] of Object.entries(table.data)) {
    if (name === '__metadata__') continue;
    const entry = entrySchema.safeParse(value);
    if (!entry.success) return bad(`tensor ${name}: ${z.prettifyError(entry.error)}`);
    const {
      dtype,
      shape,
      data_offsets: [begin, end],
    } = entry.data;
    const width = DTYPE_BYTES[dtype];
    if (width === undefined) return bad(`tensor ${name} has the unknown type ${dtype}`);
    const bytes = shape.reduce((product, dim) => product * dim, 1) * width;
    if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
      return bad(`tensor ${name}: ${dtype} [${shape.join(', ')}] takes ${bytes} bytes, its offsets span ${end - begin}`);
    }
    if (dataStart + end > fileSize)
      return bad(`tensor ${name} ends at ${dataStart + end}, past the end of the file at ${fileSize}: truncated?`);
    tensors.push({ name, type: dtype, shape, byteLength: bytes, fileOffset: dataStart + begin });
  }
  const ordered = tensors.filter((tensor) => tensor.byteLength > 0).sort((a, b) => a.fileOffset - b.fileOffset);
  for (let i = 1; i < ordered.length; i++) {
    const before = ordered[i - 1] as LocatedTensor;
    if (before.fileOffset + before.byteLength > (ordered[i] as LocatedTensor).fileOffset)
      return bad(`tensors ${before.name} and ${ordered[i]?.name} overlap`);
  }
  return tensors;
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
  // A buffer of its own is aligned for every element type.
  const bytes = new Uint8Array(new ArrayBuffer(found.byteLength));
  const fd = openSync(path, 'r');
  try {
    readSync(fd, bytes, 0, bytes.byteLength, found.fileOffset);
  } finally {
    closeSync(fd);
  }
  return { shape: found.shape, bytes };
}
