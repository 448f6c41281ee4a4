/** GGUF tensor names as Hugging Face's. Table per architecture, after llama.cpp's gguf-py/gguf/tensor_mapping.py. */

interface GgufArchitecture {
  /** Hugging Face's model_type. */
  modelType: string;
  /** Parts of `blk.<layer>.<part>.<weight|bias>`. */
  blocks: Readonly<Record<string, string>>;
  /** The converter permutes the rows of Q and K so that RoPE turns neighbouring pairs (convert_hf_to_gguf.py, `permute`). */
  permutedRope: boolean;
}

const OUTSIDE_BLOCKS: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

const DENSE_BLOCKS = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
} as const;

const ARCHITECTURES: ReadonlyMap<string, GgufArchitecture> = new Map([
  ['llama', { modelType: 'llama', blocks: DENSE_BLOCKS, permutedRope: true }],
  ['qwen2', { modelType: 'qwen2', blocks: DENSE_BLOCKS, permutedRope: false }],
  [
    'qwen3',
    {
      modelType: 'qwen3',
      blocks: { ...DENSE_BLOCKS, attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' },
      permutedRope: false,
    },
  ],
]);

/** Hugging Face's name of a GGUF architecture (`general.architecture`); unknown ones keep theirs. */
export function modelTypeOf(architecture: string): string {
  return ARCHITECTURES.get(architecture)?.modelType ?? architecture;
}

/** Whether Q and K rows are permuted for interleaved rotation. */
export function hasPermutedRope(architecture: string): boolean {
  return ARCHITECTURES.get(architecture)?.permutedRope ?? false;
}

/** Hugging Face's name of a GGUF tensor; unknown names stay as they are. */
export function huggingFaceName(architecture: string, name: string): string {
  const [, path = '', kind = ''] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
  if (Object.hasOwn(OUTSIDE_BLOCKS, path)) return `${OUTSIDE_BLOCKS[path]}.${kind}`;
  const [, layer = '', part = ''] = /^blk\.(\d+)\.([a-z0-9_]+)$/.exec(path) ?? [];
  const blocks = ARCHITECTURES.get(architecture)?.blocks;
  if (blocks === undefined || !Object.hasOwn(blocks, part)) return name;
  return `model.layers.${layer}.${blocks[part]}.${kind}`;
}
