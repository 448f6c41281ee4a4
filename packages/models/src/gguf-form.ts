import type { GgufBlocks } from '@causeway/model-files';

/** How a GGUF file of an architecture is written. Names: llama.cpp's gguf-py/gguf/constants.py and tensor_mapping.py. */
export interface GgufForm {
  /** `general.architecture`. */
  architecture: string;
  blocks: GgufBlocks;
}

/** Parts of a pre-norm block of plain attention. */
export const ATTENTION_BLOCKS = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
} as const;

/** Parts of a gated MLP. */
export const MLP_BLOCKS = {
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
} as const;

/** Norms of each head of Q and K. */
export const HEAD_NORM_BLOCKS = {
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
} as const;

/** Router and routed experts. */
export const EXPERT_BLOCKS = {
  ffn_gate_inp: 'mlp.gate',
  ffn_gate_exps: 'mlp.experts.*.gate_proj',
  ffn_up_exps: 'mlp.experts.*.up_proj',
  ffn_down_exps: 'mlp.experts.*.down_proj',
} as const;
