/**
 * Writes checkpoints with random weights: something large to load, or of a type that no small model has. Of the architectures llama and
 * qwen3_moe; as safetensors (BF16) or GGUF (github.com/ggml-org/ggml/blob/master/docs/gguf.md), the latter without a tokenizer in it.
 */
import { closeSync, copyFileSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

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

export type RandomModelType = 'BF16' | keyof typeof BLOCKS;
export const RANDOM_MODEL_TYPES: readonly RandomModelType[] = ['BF16', ...(Object.keys(BLOCKS) as (keyof typeof BLOCKS)[])];

interface Stored {
  name: string;
  gguf: string;
  shape: readonly number[];
  /** Kept as f32 in GGUF files. */
  plain?: true;
}

/** Writes the files and gives the number of weights. The same at each call. */
export function writeRandomModel(model: RandomModel): number {
  mkdirSync(model.out, { recursive: true });
  const write = new Writer(model);
  if (model.type === 'BF16') write.safetensors();
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
  if (type !== 'BF16') return [router, ...all];
  const each = Array.from({ length: moe.experts }, (_, expert) =>
    shapes(moe.inner).map(([part, shape]) => ({ name: `${at}.experts.${expert}.${part}_proj`, gguf: '', shape })),
  );
  return [router, ...each.flat()];
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
    const entries: Record<string, object> = {};
    let offset = 0;
    for (const { name, shape } of tensors) {
      const bytes = elementsOf(shape) * 2;
      entries[`${name}.weight`] = { dtype: 'BF16', shape, data_offsets: [offset, offset + bytes] };
      offset += bytes;
    }
    const json = Buffer.from(JSON.stringify(entries));
    const header = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, 0x20)]);
    const file = openSync(join(out, 'model.safetensors'), 'w');
    writeSync(file, u64(header.length));
    writeSync(file, header);
    for (const { shape } of tensors) writeSync(file, this.#bf16(elementsOf(shape)));
    closeSync(file);
    writeFileSync(join(out, 'config.json'), JSON.stringify(this.#config()));
    if (tokenizerFrom === undefined) return;
    for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'])
      copyFileSync(join(tokenizerFrom, name), join(out, name));
  }

  gguf(format: (typeof BLOCKS)[keyof typeof BLOCKS]): void {
    const tensors = tensorsOf(this.#o);
    const isPlain = ({ shape, plain }: Stored): boolean => plain === true || shape.length === 1;
    const sizeOf = (one: Stored): number =>
      isPlain(one) ? elementsOf(one.shape) * 4 : (elementsOf(one.shape) / format.weights) * format.bytes;
    let offset = 0;
    const table = tensors.map((one) => {
      const dims = one.shape.toReversed();
      const row = [
        text(`${one.gguf}.weight`),
        u32(dims.length),
        ...dims.map(u64),
        u32(isPlain(one) ? 0 : format.ggml),
        u64(offset),
      ];
      offset += Math.ceil(sizeOf(one) / 32) * 32;
      return Buffer.concat(row);
    });
    const metadata = this.#metadata(format.file);
    const head = Buffer.concat([
      Buffer.from('GGUF'),
      u32(3),
      u64(tensors.length),
      u64(metadata.length),
      ...metadata.flatMap(([key, value]) => [text(key), value]),
      ...table,
    ]);
    const file = openSync(join(this.#o.out, 'random.gguf'), 'w');
    writeSync(file, Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]));
    for (const one of tensors) {
      const count = elementsOf(one.shape);
      const bytes = one.shape.length === 1 ? f32Ones(count) : isPlain(one) ? this.#f32(count) : this.#blocks(count, format);
      writeSync(file, bytes);
      writeSync(file, Buffer.alloc((32 - (bytes.byteLength % 32)) % 32));
    }
    closeSync(file);
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

  #metadata(fileType: number): [string, Buffer][] {
    const { hidden, inner, layers, heads, kvHeads, headDim, vocab, context, moe } = this.#o;
    const architecture = moe === undefined ? 'llama' : 'qwen3moe';
    const count = (key: string, value: number): [string, Buffer] => [
      `${architecture}.${key}`,
      Buffer.concat([u32(4), u32(value)]),
    ];
    return [
      ['general.architecture', Buffer.concat([u32(8), text(architecture)])],
      ['general.file_type', Buffer.concat([u32(4), u32(fileType)])],
      count('context_length', context),
      count('embedding_length', hidden),
      count('block_count', layers),
      count('feed_forward_length', inner),
      count('attention.head_count', heads),
      count('attention.head_count_kv', kvHeads),
      count('attention.key_length', headDim),
      count('attention.value_length', headDim),
      [`${architecture}.attention.layer_norm_rms_epsilon`, Buffer.concat([u32(6), f32(1e-5)])],
      count('rope.dimension_count', headDim),
      count('vocab_size', vocab),
      ...(moe === undefined
        ? []
        : [
            count('expert_count', moe.experts),
            count('expert_used_count', moe.expertsPerToken),
            count('expert_feed_forward_length', moe.inner),
          ]),
    ];
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

const u64 = (value: number): Buffer => Buffer.concat([u32(value % 2 ** 32), u32(Math.floor(value / 2 ** 32))]);
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const f32 = (value: number): Buffer => Buffer.from(new Float32Array([value]).buffer);
