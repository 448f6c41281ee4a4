/**
 * Writes checkpoints with random weights: something large to load, or of a type that no small model has. Of the architectures llama and
 * qwen3_moe; as safetensors (BF16, or INT4_G32: routed experts packed as compressed-tensors does) or GGUF, the latter without a tokenizer in
 * it.
 */
import { closeSync, copyFileSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type GgufTensorPlan, writeGgufFile } from './gguf-file.ts';
import type { GgufMetadataValue } from './gguf-values.ts';

export interface RandomModel {
  /** Folder to write; made if it isn't there. */
  out: string;
  type: RandomModelType;
  hidden: number;
  layers: number;
  /** Rows of a dense MLP. */
  inner: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocab: number;
  context: number;
  /** Embeddings are the output's weights too. */
  tied: boolean;
  /** Left out: llama, without experts. */
  moe?: { experts: number; expertsPerToken: number; inner: number };
  /** Folder whose tokenizer and chat template are copied; for safetensors. */
  tokenizerFrom?: string;
}

/** Quantised types: ggml's number of the type and of the file type, weights and bytes of a block, and the high bytes of its f16 fields. */
const BLOCKS = {
  Q4_0: { ggml: 2, file: 2, weights: 32, bytes: 18, fields: [[1, 0x14]] },
  Q4_1: {
    ggml: 3,
    file: 3,
    weights: 32,
    bytes: 20,
    fields: [
      [1, 0x14],
      [3, 0xa0],
    ],
  },
  Q8_0: { ggml: 8, file: 7, weights: 32, bytes: 34, fields: [[1, 0x08]] },
  Q4_K: {
    ggml: 12,
    file: 15,
    weights: 256,
    bytes: 144,
    fields: [
      [1, 0x04],
      [3, 0x08],
    ],
  },
} as const;

const SAFETENSORS_TYPES = ['BF16', 'INT4_G32'] as const;
export type RandomModelType = (typeof SAFETENSORS_TYPES)[number] | keyof typeof BLOCKS;
export const RANDOM_MODEL_TYPES: readonly RandomModelType[] = [
  ...SAFETENSORS_TYPES,
  ...(Object.keys(BLOCKS) as (keyof typeof BLOCKS)[]),
];

/** Whether files of the type are safetensors; GGUF otherwise. */
export function isSafetensorsType(type: RandomModelType): type is (typeof SAFETENSORS_TYPES)[number] {
  return SAFETENSORS_TYPES.some((known) => known === type);
}

interface Stored {
  name: string;
  gguf: string;
  shape: readonly number[];
  /** Kept as f32 in GGUF files. */
  plain?: true;
  /** Of a routed expert. */
  expert?: true;
}

/** Writes the files and gives the number of weights. The same at each call. */
export function writeRandomModel(model: RandomModel): number {
  mkdirSync(model.out, { recursive: true });
  const write = new Writer(model);
  if (isSafetensorsType(model.type)) write.safetensors();
  else write.gguf(BLOCKS[model.type]);
  return tensorsOf(model).reduce((sum, { shape }) => sum + elementsOf(shape), 0);
}

/** Experts one by one, as safetensors has them; in GGUF those of a layer are one tensor. */
function tensorsOf(model: RandomModel): Stored[] {
  const { hidden, layers, vocab, tied } = model;
  const blocks = Array.from({ length: layers }, (_, layer) => [...attention(model, layer), ...mlp(model, layer)]);
  const head: Stored = { name: 'lm_head', gguf: 'output', shape: [vocab, hidden] };
  return [
    { name: 'model.norm', gguf: 'output_norm', shape: [hidden] },
    { name: 'model.embed_tokens', gguf: 'token_embd', shape: [vocab, hidden] },
    ...(tied ? [] : [head]),
    ...blocks.flat(),
  ];
}

function attention({ hidden, heads, kvHeads, headDim, moe }: RandomModel, layer: number): Stored[] {
  const [at, block] = [`model.layers.${layer}`, `blk.${layer}`];
  const rows = { q_proj: heads * headDim, k_proj: kvHeads * headDim, v_proj: kvHeads * headDim };
  const headNorms = ['q_norm', 'k_norm'].map((part) => ({
    name: `${at}.self_attn.${part}`,
    gguf: `${block}.attn_${part}`,
    shape: [headDim],
  }));
  return [
    { name: `${at}.input_layernorm`, gguf: `${block}.attn_norm`, shape: [hidden] },
    ...Object.entries(rows).map(([part, count]) => ({
      name: `${at}.self_attn.${part}`,
      gguf: `${block}.attn_${part.charAt(0)}`,
      shape: [count, hidden],
    })),
    { name: `${at}.self_attn.o_proj`, gguf: `${block}.attn_output`, shape: [hidden, heads * headDim] },
    ...(moe === undefined ? [] : headNorms),
    { name: `${at}.post_attention_layernorm`, gguf: `${block}.ffn_norm`, shape: [hidden] },
  ];
}

function mlp({ hidden, inner, moe, type }: RandomModel, layer: number): Stored[] {
  const [at, block] = [`model.layers.${layer}.mlp`, `blk.${layer}`];
  const shapes = (rows: number): [string, number[]][] => [
    ['gate', [rows, hidden]],
    ['up', [rows, hidden]],
    ['down', [hidden, rows]],
  ];
  if (moe === undefined) {
    return shapes(inner).map(([part, shape]) => ({ name: `${at}.${part}_proj`, gguf: `${block}.ffn_${part}`, shape }));
  }
  const router: Stored = { name: `${at}.gate`, gguf: `${block}.ffn_gate_inp`, shape: [moe.experts, hidden], plain: true };
  const all = shapes(moe.inner).map(([part, shape]) => ({
    name: `${at}.experts.${part}_proj`,
    gguf: `${block}.ffn_${part}_exps`,
    shape: [moe.experts, ...shape],
  }));
  if (!isSafetensorsType(type)) return [router, ...all];
  const each = Array.from({ length: moe.experts }, (_, expert) =>
    shapes(moe.inner).map(([part, shape]) => ({
      name: `${at}.experts.${expert}.${part}_proj`,
      gguf: '',
      shape,
      expert: true as const,
    })),
  );
  return [router, ...each.flat()];
}

/** A tensor of a safetensors file. */
interface Piece {
  name: string;
  dtype: string;
  shape: readonly number[];
  byteLength: number;
  bytes: () => Uint8Array;
}

const elementsOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1);
const f32Ones = (count: number): Uint8Array => new Uint8Array(new Float32Array(count).fill(1).buffer);

class Writer {
  readonly #o: RandomModel;
  #state = 1;

  constructor(model: RandomModel) {
    this.#o = model;
  }

  safetensors(): void {
    const { out, tokenizerFrom } = this.#o;
    const tensors = tensorsOf(this.#o);
    const pieces = tensors.flatMap((tensor) => this.#pieces(tensor));
    const entries: Record<string, object> = {};
    let offset = 0;
    for (const { name, dtype, shape, byteLength } of pieces) {
      entries[name] = { dtype, shape, data_offsets: [offset, offset + byteLength] };
      offset += byteLength;
    }
    const json = Buffer.from(JSON.stringify(entries));
    const header = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, 0x20)]);
    const file = openSync(join(out, 'model.safetensors'), 'w');
    writeSync(file, u64(header.length));
    writeSync(file, header);
    for (const { bytes } of pieces) writeSync(file, bytes());
    closeSync(file);
    writeFileSync(join(out, 'config.json'), JSON.stringify(this.#config()));
    if (tokenizerFrom === undefined) return;
    for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'])
      copyFileSync(join(tokenizerFrom, name), join(out, name));
  }

  gguf(format: (typeof BLOCKS)[keyof typeof BLOCKS]): void {
    const plans = tensorsOf(this.#o).map(({ gguf, shape, plain }): GgufTensorPlan => {
      const count = elementsOf(shape);
      const [name, dims] = [`${gguf}.weight`, shape.toReversed()];
      if (shape.length === 1) return { name, dims, type: 0, byteLength: count * 4, bytes: () => [f32Ones(count)] };
      if (plain === true) return { name, dims, type: 0, byteLength: count * 4, bytes: () => [this.#f32(count)] };
      const byteLength = (count / format.weights) * format.bytes;
      return { name, dims, type: format.ggml, byteLength, bytes: () => [this.#blocks(count, format)] };
    });
    writeGgufFile(join(this.#o.out, 'random.gguf'), this.#metadata(format.file), plans);
  }

  /** What a file holds of a weight: of packed ones codes, scales of 32 inputs each, and the shape. */
  #pieces({ name, shape, expert }: Stored): Piece[] {
    const count = elementsOf(shape);
    const [rows = 0, columns = 0] = shape;
    if (this.#o.type !== 'INT4_G32' || expert !== true)
      return [{ name: `${name}.weight`, dtype: 'BF16', shape, byteLength: count * 2, bytes: () => this.#bf16(count) }];
    const part = (what: string, dtype: string, of: readonly number[], byteLength: number, bytes: () => Uint8Array): Piece => ({
      name: `${name}.weight_${what}`,
      dtype,
      shape: of,
      byteLength,
      bytes,
    });
    return [
      part('packed', 'I32', [rows, columns / 8], count / 2, () => new Uint8Array(this.#noise(count / 8).buffer)),
      part('scale', 'BF16', [rows, columns / 32], count / 16, () =>
        this.#bf16(count / 32).map((byte, i) => (i % 2 === 0 ? byte : byte & 0x7f)),
      ),
      part('shape', 'I64', [2], 16, () => new Uint8Array(BigInt64Array.of(BigInt(rows), BigInt(columns)).buffer)),
    ];
  }

  /** Random words, other ones for each tensor: ONNX Runtime keeps equal weights once. */
  #noise(count: number): Uint32Array {
    const words = new Uint32Array(count);
    for (let i = 0; i < count; i++) words[i] = this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return words;
  }

  /** Small bf16 numbers: sign and fraction are random, and the exponent within a few powers of two. */
  #bf16(elements: number): Uint8Array {
    const words = this.#noise(elements / 2);
    // Two numbers of a word: of each the exponent is 01110110 to 01111001 in binary, 2^-9 to 2^-6.
    for (let i = 0; i < words.length; i++)
      words[i] = ((words[i] ?? 0) & 0x80ff_80ff) | 0x3b00_3b00 | (((words[i] ?? 0) >>> 9) & 0x0080_0080);
    return new Uint8Array(words.buffer);
  }

  #f32(elements: number): Uint8Array {
    return new Uint8Array(Float32Array.from(this.#noise(elements), (word) => word / 2 ** 35 - 2 ** -4).buffer);
  }

  /** Blocks whose f16 fields are small and whose quants are random. */
  #blocks(elements: number, { weights, bytes, fields }: (typeof BLOCKS)[keyof typeof BLOCKS]): Uint8Array {
    const total = (elements / weights) * bytes;
    const values = new Uint8Array(this.#noise(Math.ceil(total / 4)).buffer, 0, total);
    for (let block = 0; block < total; block += bytes)
      for (const [at, high] of fields) values[block + at] = high + ((values[block + at] ?? 0) & 3);
    return values;
  }

  #config(): object {
    const { hidden, inner, layers, heads, kvHeads, headDim, vocab, context, tied, moe } = this.#o;
    return {
      model_type: moe === undefined ? 'llama' : 'qwen3_moe',
      hidden_size: hidden,
      intermediate_size: inner,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: kvHeads,
      head_dim: headDim,
      vocab_size: vocab,
      max_position_embeddings: context,
      rms_norm_eps: 1e-5,
      rope_theta: 10_000,
      tie_word_embeddings: tied,
      eos_token_id: 2,
      hidden_act: 'silu',
      torch_dtype: 'bfloat16',
      ...(moe === undefined
        ? {}
        : {
            num_experts: moe.experts,
            num_experts_per_tok: moe.expertsPerToken,
            moe_intermediate_size: moe.inner,
            norm_topk_prob: true,
            decoder_sparse_step: 1,
            mlp_only_layers: [],
          }),
    };
  }

  #metadata(fileType: number): [string, GgufMetadataValue][] {
    const { hidden, inner, layers, heads, kvHeads, headDim, vocab, context, moe } = this.#o;
    const architecture = moe === undefined ? 'llama' : 'qwen3moe';
    const counts = {
      context_length: context,
      embedding_length: hidden,
      block_count: layers,
      feed_forward_length: inner,
      'attention.head_count': heads,
      'attention.head_count_kv': kvHeads,
      'attention.key_length': headDim,
      'attention.value_length': headDim,
      'rope.dimension_count': headDim,
      vocab_size: vocab,
      ...(moe === undefined
        ? {}
        : { expert_count: moe.experts, expert_used_count: moe.expertsPerToken, expert_feed_forward_length: moe.inner }),
    };
    return [
      ['general.architecture', { text: architecture }],
      ['general.file_type', { u32: fileType }],
      [`${architecture}.attention.layer_norm_rms_epsilon`, { f32: 1e-5 }],
      ...Object.entries(counts).map(([key, u32]): [string, GgufMetadataValue] => [`${architecture}.${key}`, { u32 }]),
    ];
  }
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
