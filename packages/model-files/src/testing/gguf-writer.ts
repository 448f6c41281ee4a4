/** Writes GGUF files for tests: honest ones, and ones that lie in a chosen place. */

/** A metadata value with its GGUF type. */
export type MetadataValue =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { u64: bigint }
  | { text: string }
  | { texts: readonly string[] }
  | { f32s: readonly number[] }
  | { i32s: readonly number[] };

export interface GgufTensor {
  name: string;
  /** Innermost first, as the file has them. */
  dims: readonly (number | bigint)[];
  /** ggml's type number; default 0 (F32). */
  type?: number;
  bytes?: Uint8Array;
  /** Default: right after the tensor before, aligned. */
  offset?: bigint;
}

export interface GgufContent {
  magic?: number;
  version?: number;
  tensorCount?: bigint;
  keyCount?: bigint;
  alignment?: number;
  metadata?: readonly (readonly [key: string, value: MetadataValue])[];
  tensors?: readonly GgufTensor[];
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: bigint | number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return bytes;
};
const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

function valueBytes(value: MetadataValue): Buffer {
  if ('u32' in value) return Buffer.concat([u32(4), u32(value.u32)]);
  if ('f32' in value) return Buffer.concat([u32(6), f32(value.f32)]);
  if ('bool' in value) return Buffer.concat([u32(7), Buffer.from([value.bool ? 1 : 0])]);
  if ('u64' in value) return Buffer.concat([u32(10), u64(value.u64)]);
  if ('text' in value) return Buffer.concat([u32(8), text(value.text)]);
  if ('texts' in value) return Buffer.concat([u32(9), u32(8), u64(value.texts.length), ...value.texts.map(text)]);
  if ('f32s' in value) return Buffer.concat([u32(9), u32(6), u64(value.f32s.length), ...value.f32s.map(f32)]);
  return Buffer.concat([u32(9), u32(5), u64(value.i32s.length), ...value.i32s.map((item) => u32(item >>> 0))]);
}

/** Bytes of a GGUF file. */
export function ggufBytes(content: GgufContent): Buffer {
  const { metadata = [], tensors = [], alignment = 32 } = content;
  const align = (size: number): number => Math.ceil(size / alignment) * alignment;
  const pairs = metadata.map(([key, value]) => Buffer.concat([text(key), valueBytes(value)]));
  let end = 0;
  const data: Buffer[] = [];
  const entries = tensors.map(({ name, dims, type = 0, bytes = new Uint8Array(), offset }) => {
    const at = offset ?? BigInt(end);
    data.push(Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)]));
    end += align(bytes.length);
    return Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(at)]);
  });
  const head = Buffer.concat([
    u32(content.magic ?? 0x46554747),
    u32(content.version ?? 3),
    u64(content.tensorCount ?? tensors.length),
    u64(content.keyCount ?? metadata.length),
    ...pairs,
    ...entries,
  ]);
  return Buffer.concat([head, Buffer.alloc(align(head.length) - head.length), ...data]);
}

/** Metadata of a small llama: 2 layers, 4 heads of 8, 2 KV heads. */
export const LLAMA_METADATA: readonly (readonly [string, MetadataValue])[] = [
  ['general.architecture', { text: 'llama' }],
  ['llama.embedding_length', { u32: 32 }],
  ['llama.block_count', { u32: 2 }],
  ['llama.attention.head_count', { u32: 4 }],
  ['llama.attention.head_count_kv', { u32: 2 }],
  ['llama.feed_forward_length', { u32: 64 }],
  ['llama.context_length', { u32: 128 }],
  ['llama.attention.layer_norm_rms_epsilon', { f32: 0.5 }],
  ['llama.rope.freq_base', { f32: 10_000 }],
  ['llama.vocab_size', { u32: 7 }],
];

/** `base` with some values replaced, added or (undefined) left out. */
export function withMetadata(
  base: GgufContent['metadata'],
  changes: Readonly<Record<string, MetadataValue | undefined>>,
): (readonly [string, MetadataValue])[] {
  const merged = new Map<string, MetadataValue | undefined>([...(base ?? []), ...Object.entries(changes)]);
  return [...merged].flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const]));
}
