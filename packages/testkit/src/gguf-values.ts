/** Numbers, texts and metadata values as GGUF files have them (github.com/ggml-org/ggml/blob/master/docs/gguf.md), for writers in tests. */

/** A metadata value with its GGUF type. */
export type GgufMetadataValue =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { u64: bigint }
  | { text: string }
  | { texts: readonly string[] }
  | { f32s: readonly number[] }
  | { i32s: readonly number[] };

export const ggufU32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};

export const ggufU64 = (value: bigint | number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return bytes;
};

const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};

export const ggufText = (value: string): Buffer => Buffer.concat([ggufU64(Buffer.byteLength(value)), Buffer.from(value)]);

/** The value behind the number of its type. */
export function ggufValue(value: GgufMetadataValue): Buffer {
  const list = (type: number, items: readonly Buffer[]): Buffer =>
    Buffer.concat([ggufU32(9), ggufU32(type), ggufU64(items.length), ...items]);
  if ('u32' in value) return Buffer.concat([ggufU32(4), ggufU32(value.u32)]);
  if ('f32' in value) return Buffer.concat([ggufU32(6), f32(value.f32)]);
  if ('bool' in value) return Buffer.concat([ggufU32(7), Buffer.from([value.bool ? 1 : 0])]);
  if ('u64' in value) return Buffer.concat([ggufU32(10), ggufU64(value.u64)]);
  if ('text' in value) return Buffer.concat([ggufU32(8), ggufText(value.text)]);
  if ('texts' in value) return list(8, value.texts.map(ggufText));
  if ('f32s' in value) return list(6, value.f32s.map(f32));
  return list(5, value.i32s.map(ggufU32));
}
