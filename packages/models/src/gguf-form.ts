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

/** Experts that every token takes, as one MLP. */
export const SHARED_EXPERT_BLOCKS = {
  ffn_gate_shexp: 'mlp.shared_experts.gate_proj',
  ffn_up_shexp: 'mlp.shared_experts.up_proj',
  ffn_down_shexp: 'mlp.shared_experts.down_proj',
} as const;

/** Latent attention, up to the projections that plain attention has too. Newer files have kv_b split into K's and V's part by head. */
export const LATENT_BLOCKS = {
  attn_q_a: 'self_attn.q_a_proj',
  attn_q_a_norm: 'self_attn.q_a_layernorm',
  attn_q_b: 'self_attn.q_b_proj',
  attn_kv_a_mqa: 'self_attn.kv_a_proj_with_mqa',
  attn_kv_a_norm: 'self_attn.kv_a_layernorm',
  attn_kv_b: 'self_attn.kv_b_proj',
  attn_k_b: 'self_attn.k_b_proj.*',
  attn_v_b: 'self_attn.v_b_proj.*',
} as const;
