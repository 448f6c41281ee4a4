/**
 * Writes a checkpoint of the llama architecture with random weights and the built-in model's tokenizer: something large to load.
 *   node tests/bench/random-checkpoint.ts --out DIR [--type BF16|Q4_0|Q8_0] [--hidden 2048] [--layers 16] [--tied no]
 * BF16 is written as safetensors, the others as GGUF, without a tokenizer in it.
 */
import { closeSync, copyFileSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type GgufMetadataValue, type GgufTensorPlan, writeGgufFile } from '@causeway/testkit';
import { flag } from './bench-report.ts';

const TINY_MOE = resolve(import.meta.dirname, '../../models/tiny-moe');
const [out, type] = [resolve(flag('out', '')), flag('type', 'BF16')];
const [hidden, layers] = [Number(flag('hidden', '2048')), Number(flag('layers', '16'))];
const [heads, kvHeads, headDim] = [hidden / 64, Math.max(1, hidden / 256), 64];
const [inner, vocab, context] = [hidden * 4, 32_768, 4096];
const tied = flag('tied', 'no') === 'yes';

interface Stored {
  name: string;
  gguf: string;
  shape: readonly number[];
}

/** Blocks of 32 weights: ggml's number of the type, bytes of a block, of which the first two are an f16 scale. */
const BLOCKS: Readonly<Record<string, { ggml: number; bytes: number; file: number }>> = {
  Q4_0: { ggml: 2, bytes: 18, file: 2 },
  Q8_0: { ggml: 8, bytes: 34, file: 7 },
};

function tensors(): Stored[] {
  const matrix = (name: string, gguf: string, rows: number, columns: number): Stored => ({ name, gguf, shape: [rows, columns] });
  const norm = (name: string, gguf: string): Stored => ({ name, gguf, shape: [hidden] });
  const blocks = Array.from({ length: layers }, (_, i) => {
    const [at, in_] = [`model.layers.${i}`, `blk.${i}`];
    return [
      norm(`${at}.input_layernorm`, `${in_}.attn_norm`),
      matrix(`${at}.self_attn.q_proj`, `${in_}.attn_q`, heads * headDim, hidden),
      matrix(`${at}.self_attn.k_proj`, `${in_}.attn_k`, kvHeads * headDim, hidden),
      matrix(`${at}.self_attn.v_proj`, `${in_}.attn_v`, kvHeads * headDim, hidden),
      matrix(`${at}.self_attn.o_proj`, `${in_}.attn_output`, hidden, heads * headDim),
      norm(`${at}.post_attention_layernorm`, `${in_}.ffn_norm`),
      matrix(`${at}.mlp.gate_proj`, `${in_}.ffn_gate`, inner, hidden),
      matrix(`${at}.mlp.up_proj`, `${in_}.ffn_up`, inner, hidden),
      matrix(`${at}.mlp.down_proj`, `${in_}.ffn_down`, hidden, inner),
    ];
  });
  const ends = [norm('model.norm', 'output_norm'), matrix('model.embed_tokens', 'token_embd', vocab, hidden)];
  return [...ends, ...(tied ? [] : [matrix('lm_head', 'output', vocab, hidden)]), ...blocks.flat()];
}

/** Random words, other ones for each tensor: ONNX Runtime keeps equal weights once. The same at each start. */
let state = 1;
function noise(count: number): Uint32Array {
  const words = new Uint32Array(count);
  for (let i = 0; i < count; i++) words[i] = state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return words;
}

/** Small bf16 numbers: sign and fraction are random, and the exponent within a few powers of two. */
function bf16(elements: number): Uint8Array {
  const words = noise(elements / 2);
  // Two numbers of a word: of each the exponent is 01110110 to 01111001 in binary, 2^-9 to 2^-6.
  for (let i = 0; i < words.length; i++)
    words[i] = ((words[i] ?? 0) & 0x80ff_80ff) | 0x3b00_3b00 | (((words[i] ?? 0) >>> 9) & 0x0080_0080);
  return new Uint8Array(words.buffer);
}

/** Blocks whose scale is some 2^-10 and whose quants are random. */
function blocks(elements: number, bytes: number): Uint8Array {
  const values = new Uint8Array(noise(Math.ceil(((elements / 32) * bytes) / 4)).buffer, 0, (elements / 32) * bytes);
  for (let at = 0; at < values.length; at += bytes) values[at + 1] = 0x14 + ((values[at + 1] ?? 0) & 3);
  return values;
}

const f32Ones = (count: number): Uint8Array => new Uint8Array(new Float32Array(count).fill(1).buffer);
const elementsOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1);

function writeSafetensors(): void {
  const entries: Record<string, object> = {};
  let offset = 0;
  for (const { name, shape } of tensors()) {
    const bytes = elementsOf(shape) * 2;
    entries[`${name}.weight`] = { dtype: 'BF16', shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const json = Buffer.from(JSON.stringify(entries));
  const header = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, 0x20)]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = openSync(join(out, 'model.safetensors'), 'w');
  writeSync(file, length);
  writeSync(file, header);
  for (const { shape } of tensors()) writeSync(file, bf16(elementsOf(shape)));
  closeSync(file);
  const config = {
    model_type: 'llama',
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
  };
  writeFileSync(join(out, 'config.json'), JSON.stringify(config));
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'])
    copyFileSync(join(TINY_MOE, name), join(out, name));
}

function writeGguf(format: { ggml: number; bytes: number; file: number }): void {
  const metadata: [string, GgufMetadataValue][] = [
    ['general.architecture', { text: 'llama' }],
    ['general.file_type', { u32: format.file }],
    ['llama.context_length', { u32: context }],
    ['llama.embedding_length', { u32: hidden }],
    ['llama.block_count', { u32: layers }],
    ['llama.feed_forward_length', { u32: inner }],
    ['llama.attention.head_count', { u32: heads }],
    ['llama.attention.head_count_kv', { u32: kvHeads }],
    ['llama.attention.layer_norm_rms_epsilon', { f32: 1e-5 }],
    ['llama.rope.dimension_count', { u32: headDim }],
    ['llama.vocab_size', { u32: vocab }],
  ];
  const plans = tensors().map(({ gguf, shape }): GgufTensorPlan => {
    const elements = elementsOf(shape);
    const [type, byteLength] = shape.length === 1 ? [0, elements * 4] : [format.ggml, (elements / 32) * format.bytes];
    const bytes = () => [shape.length === 1 ? f32Ones(elements) : blocks(elements, format.bytes)];
    return { name: `${gguf}.weight`, dims: shape.toReversed(), type, byteLength, bytes };
  });
  writeGgufFile(join(out, 'random.gguf'), metadata, plans);
}

if (flag('out', '') === '') throw new Error('--out names the folder to write');
mkdirSync(out, { recursive: true });
const format = BLOCKS[type];
if (type === 'BF16') writeSafetensors();
else if (format !== undefined) writeGguf(format);
else throw new Error(`--type is BF16, ${Object.keys(BLOCKS).join(' or ')}`);
const weights = tensors().reduce((sum, { shape }) => sum + elementsOf(shape), 0);
console.log(`wrote ${(weights / 1e6).toFixed(0)} million weights as ${type} to ${out}`);
