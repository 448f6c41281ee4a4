/** GGUF metadata as a ModelConfig, and GGUF tensor names as Hugging Face's. Keys: ggml's docs/gguf.md; names: llama.cpp's gguf-py. */
import { fail } from '@causeway/errors';
import type { GgufFile, GgufValue } from './gguf.ts';
import type { ModelConfig, RopeConfig } from './model-config.ts';

const GLOBAL_NAMES: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};
/** Parts of `blk.N.<part>.weight`. */
const BLOCK_NAMES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  llama: {
    attn_norm: 'input_layernorm',
    attn_q: 'self_attn.q_proj',
    attn_k: 'self_attn.k_proj',
    attn_v: 'self_attn.v_proj',
    attn_output: 'self_attn.o_proj',
    ffn_norm: 'post_attention_layernorm',
    ffn_gate: 'mlp.gate_proj',
    ffn_up: 'mlp.up_proj',
    ffn_down: 'mlp.down_proj',
  },
};

/** Hugging Face's name of a GGUF tensor; unknown names stay as they are. */
export function huggingFaceName(architecture: string, name: string): string {
  const global = GLOBAL_NAMES[name];
  if (global !== undefined) return global;
  const match = /^blk\.(\d+)\.([a-z0-9_]+)\.(weight|bias)$/.exec(name);
  const part = BLOCK_NAMES[architecture]?.[match?.[2] ?? ''];
  return match === null || part === undefined ? name : `model.layers.${match[1]}.${part}.${match[3]}`;
}

/** Architectures whose converter permutes the rows of Q and K so that RoPE turns neighbouring pairs (convert_hf_to_gguf.py, `permute`). */
export const PERMUTED_ROPE: ReadonlySet<string> = new Set(['llama']);

/** @throws ServiceError `malformed_file` naming the key that is missing or no number. */
export function configFromGguf(path: string, file: GgufFile): ModelConfig {
  const { metadata } = file;
  const architecture = metadata.get('general.architecture');
  if (typeof architecture !== 'string') fail('invalid_argument', 'malformed_file', `${path}: general.architecture is missing`);
  const number = (key: string, fallback?: number): number => numberOf(path, metadata, key, fallback);
  const own = (key: string, fallback?: number): number => number(`${architecture}.${key}`, fallback);
  const embedding = file.tensors.find((tensor) => tensor.name === 'token_embd.weight');
  const heads = own('attention.head_count');
  const hiddenSize = own('embedding_length');
  const bos = metadata.get('tokenizer.ggml.bos_token_id');
  return {
    architecture,
    hiddenSize,
    layers: own('block_count'),
    heads,
    kvHeads: own('attention.head_count_kv', heads),
    headDim: own('attention.key_length', Math.floor(hiddenSize / heads)),
    intermediateSize: own('feed_forward_length'),
    vocabSize: embedding?.shape[0] ?? own('vocab_size'),
    contextLength: own('context_length'),
    rmsNormEps: own('attention.layer_norm_rms_epsilon'),
    tieWordEmbeddings: !file.tensors.some((tensor) => tensor.name === 'output.weight'),
    rope: ropeOf(path, metadata, architecture, own),
    mla: undefined,
    moe: undefined,
    eosTokenIds: [...new Set(['eos', 'eot'].flatMap((name) => metadata.get(`tokenizer.ggml.${name}_token_id`) ?? []))].filter(
      (id) => typeof id === 'number',
    ),
    bosTokenId: typeof bos === 'number' ? bos : undefined,
  };
}

function ropeOf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  architecture: string,
  own: (key: string, fallback?: number) => number,
): RopeConfig {
  const theta = own('rope.freq_base', 10_000);
  const type = metadata.get(`${architecture}.rope.scaling.type`) ?? 'none';
  if (type === 'none') return { type: 'default', theta };
  if (type === 'linear') return { type: 'linear', theta, factor: own('rope.scaling.factor') };
  if (type === 'yarn') {
    return {
      type,
      theta,
      factor: own('rope.scaling.factor'),
      originalContextLength: own('rope.scaling.original_context_length'),
      betaFast: 32,
      betaSlow: 1,
    };
  }
  return fail(
    'unimplemented',
    'unsupported_format',
    `${path}: RoPE scaling ${String(type)} is not supported; supported: none, linear, yarn`,
  );
}

function numberOf(path: string, metadata: ReadonlyMap<string, GgufValue>, key: string, fallback: number | undefined): number {
  const value = metadata.get(key);
  if (value === undefined && fallback !== undefined) return fallback;
  const number = typeof value === 'bigint' ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number) || number <= 0) {
    fail(
      'invalid_argument',
      'malformed_file',
      `${path}: ${key} is ${value === undefined ? 'missing' : `not a positive number: ${String(value).slice(0, 40)}`}`,
    );
  }
  return number;
}
