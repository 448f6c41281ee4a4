/**
 * Writes GGUF files of any size for tests and benchmarks, tensor by tensor.
 * Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
 */
import { closeSync, openSync, writeSync } from 'node:fs';

/** A metadata value with its GGUF type. */
export type GgufMetadataValue =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { text: string }
  | { texts: readonly string[] }
  | { i32s: readonly number[] };

export interface GgufTensorPlan {
  name: string;
  /** Innermost first, as the file has them. */
  dims: readonly number[];
  /** ggml's number of the type. */
  type: number;
  byteLength: number;
  /** Makes the tensor's bytes, in order; together they are `byteLength`. */
  bytes: () => Iterable<Uint8Array>;
}

const ALIGNMENT = 32;
const aligned = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

function valueBytes(value: GgufMetadataValue): Buffer {
  if ('u32' in value) return Buffer.concat([u32(4), u32(value.u32)]);
  if ('f32' in value) return Buffer.concat([u32(6), f32(value.f32)]);
  if ('bool' in value) return Buffer.concat([u32(7), Buffer.from([value.bool ? 1 : 0])]);
  if ('text' in value) return Buffer.concat([u32(8), text(value.text)]);
  if ('texts' in value) return Buffer.concat([u32(9), u32(8), u64(value.texts.length), ...value.texts.map(text)]);
  return Buffer.concat([u32(9), u32(5), u64(value.i32s.length), ...value.i32s.map(u32)]);
}

/**
 * Writes a file of GGUF version 3.
 * @throws Error when a tensor makes other than its `byteLength` bytes.
 */
export function writeGgufFile(
  path: string,
  metadata: readonly (readonly [key: string, value: GgufMetadataValue])[],
  tensors: readonly GgufTensorPlan[],
): void {
  let end = 0;
  const table = tensors.map(({ name, dims, type, byteLength }) => {
    const entry = Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(end)]);
    end += aligned(byteLength);
    return entry;
  });
  const pairs = metadata.map(([key, value]) => Buffer.concat([text(key), valueBytes(value)]));
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(metadata.length), ...pairs, ...table]);
  const file = openSync(path, 'w');
  try {
    const writeAll = (bytes: Uint8Array): void => {
      for (let at = 0; at < bytes.byteLength; ) at += writeSync(file, bytes, at);
    };
    writeAll(head);
    writeAll(Buffer.alloc(aligned(head.byteLength) - head.byteLength));
    for (const { name, byteLength, bytes } of tensors) {
      let written = 0;
      for (const part of bytes()) {
        writeAll(part);
        written += part.byteLength;
      }
      if (written !== byteLength) throw new Error(`${name} made ${written} bytes of ${byteLength}`);
      writeAll(Buffer.alloc(aligned(written) - written));
    }
  } finally {
    closeSync(file);
  }
}
