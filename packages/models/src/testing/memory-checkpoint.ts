/** A checkpoint in memory, for tests: any config over any tensors. */
import type { Checkpoint, ModelConfig, TensorInfo } from '@causeway/model-files';
import { NativeBuffer } from '@causeway/ort';

export interface StoredTensor {
  type: string;
  shape: readonly number[];
  /** Bytes as a file would hold them. */
  bytes: Uint8Array;
}

/** f32 numbers as a stored tensor. */
export function storedF32(shape: readonly number[], values: Float32Array): StoredTensor {
  return { type: 'F32', shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** A small llama config; override what a test is about. */
export const SMALL_LLAMA: ModelConfig = {
  architecture: 'llama',
  hiddenSize: 64,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  intermediateSize: 96,
  vocabSize: 50,
  contextLength: 128,
  rmsNormEps: 1e-5,
  tieWordEmbeddings: false,
  rope: { type: 'default', theta: 10_000 },
  slidingWindow: undefined,
  mla: undefined,
  moe: undefined,
  eosTokenIds: [],
  bosTokenId: undefined,
};

/** Shapes of a llama checkpoint's tensors by Hugging Face name. */
export function llamaShapes(config: ModelConfig): Map<string, number[]> {
  const { hiddenSize: hidden, intermediateSize: inner, headDim } = config;
  const shapes = new Map<string, number[]>([
    ['model.embed_tokens.weight', [config.vocabSize, hidden]],
    ['model.norm.weight', [hidden]],
    ['lm_head.weight', [config.vocabSize, hidden]],
  ]);
  for (let layer = 0; layer < config.layers; layer++) {
    const name = `model.layers.${layer}`;
    shapes.set(`${name}.input_layernorm.weight`, [hidden]);
    shapes.set(`${name}.post_attention_layernorm.weight`, [hidden]);
    shapes.set(`${name}.self_attn.q_proj.weight`, [config.heads * headDim, hidden]);
    shapes.set(`${name}.self_attn.k_proj.weight`, [config.kvHeads * headDim, hidden]);
    shapes.set(`${name}.self_attn.v_proj.weight`, [config.kvHeads * headDim, hidden]);
    shapes.set(`${name}.self_attn.o_proj.weight`, [hidden, config.heads * headDim]);
    shapes.set(`${name}.mlp.gate_proj.weight`, [inner, hidden]);
    shapes.set(`${name}.mlp.up_proj.weight`, [inner, hidden]);
    shapes.set(`${name}.mlp.down_proj.weight`, [hidden, inner]);
  }
  return shapes;
}

/** Numbers in [-scale, scale) that only depend on the seed (mulberry32). */
export function seededNumbers(seed: number, count: number, scale = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * 2 - 1) * scale;
  });
}

/** A llama checkpoint of seeded numbers. */
export function smallLlamaTensors(config: ModelConfig): Map<string, StoredTensor> {
  let seed = 1;
  return new Map(
    [...llamaShapes(config)].map(([name, shape]) => {
      const count = shape.reduce((product, dim) => product * dim, 1);
      return [name, storedF32(shape, seededNumbers(seed++, count, 0.3))];
    }),
  );
}

/** Lays tensors out in native memory, 8-byte aligned plus `misalign` bytes. */
export function memoryCheckpoint(
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredTensor>,
  o: { misalign?: number; format?: Checkpoint['format'] } = {},
): Checkpoint {
  const offsets = new Map<string, number>();
  let size = 0;
  for (const [name, tensor] of tensors) {
    offsets.set(name, size + (o.misalign ?? 0));
    size += Math.ceil(tensor.bytes.byteLength / 8) * 8 + 8;
  }
  const buffer = NativeBuffer.allocate(size);
  for (const [name, tensor] of tensors) buffer.bytes().set(tensor.bytes, offsets.get(name) ?? 0);
  const infos = [...tensors].map(([name, { type, shape, bytes }]): [string, TensorInfo] => [
    name,
    { name, type, shape, byteLength: bytes.byteLength },
  ]);
  return {
    format: o.format ?? 'safetensors',
    name: 'memory',
    architecture: config.architecture,
    config,
    tensors: new Map(infos),
    tokenizerSource: undefined,
    data: (name) => ({ buffer, offset: offsets.get(name) ?? 0, byteLength: tensors.get(name)?.bytes.byteLength ?? 0 }),
    weightsHash: () => Promise.reject(new Error('a checkpoint in memory has no file')),
    assertUnchanged: () => undefined,
    [Symbol.dispose]: () => buffer[Symbol.dispose](),
  };
}
