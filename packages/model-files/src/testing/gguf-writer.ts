/** Writes GGUF files for tests: honest ones, and ones that lie in a chosen place. */
import { type GgufMetadataValue, ggufText, ggufU32, ggufU64, ggufValue } from '@causeway/testkit';

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
  metadata?: readonly (readonly [key: string, value: GgufMetadataValue])[];
  tensors?: readonly GgufTensor[];
}

/** Bytes of a GGUF file. */
export function ggufBytes(content: GgufContent): Buffer {
  const { metadata = [], tensors = [], alignment = 32 } = content;
  const align = (size: number): number => Math.ceil(size / alignment) * alignment;
  const pairs = metadata.map(([key, value]) => Buffer.concat([ggufText(key), ggufValue(value)]));
  let end = 0;
  const data: Buffer[] = [];
  const entries = tensors.map(({ name, dims, type = 0, bytes = new Uint8Array(), offset }) => {
    const at = offset ?? BigInt(end);
    data.push(Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)]));
    end += align(bytes.length);
    return Buffer.concat([ggufText(name), ggufU32(dims.length), ...dims.map(ggufU64), ggufU32(type), ggufU64(at)]);
  });
  const head = Buffer.concat([
    ggufU32(content.magic ?? 0x46554747),
    ggufU32(content.version ?? 3),
    ggufU64(content.tensorCount ?? tensors.length),
    ggufU64(content.keyCount ?? metadata.length),
    ...pairs,
    ...entries,
  ]);
  return Buffer.concat([head, Buffer.alloc(align(head.length) - head.length), ...data]);
}

/** Metadata of a small llama: 2 layers, 4 heads of 8, 2 KV heads. */
export const LLAMA_METADATA: readonly (readonly [string, GgufMetadataValue])[] = [
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
  changes: Readonly<Record<string, GgufMetadataValue | undefined>>,
): (readonly [string, GgufMetadataValue])[] {
  const merged = new Map<string, GgufMetadataValue | undefined>([...(base ?? []), ...Object.entries(changes)]);
  return [...merged].flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const]));
}
