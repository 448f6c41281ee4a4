/**
 * Writes GGUF files of any size for tests and benchmarks, tensor by tensor.
 * Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { type GgufMetadataValue, ggufText, ggufU32, ggufU64, ggufValue } from './gguf-values.ts';

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
    const entry = Buffer.concat([ggufText(name), ggufU32(dims.length), ...dims.map(ggufU64), ggufU32(type), ggufU64(end)]);
    end += aligned(byteLength);
    return entry;
  });
  const pairs = metadata.map(([key, value]) => Buffer.concat([ggufText(key), ggufValue(value)]));
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    ggufU32(3),
    ggufU64(tensors.length),
    ggufU64(metadata.length),
    ...pairs,
    ...table,
  ]);
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
