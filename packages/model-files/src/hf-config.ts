/** Hugging Face config.json, in transformers' v4 dialect (rope_theta, rope_scaling) and v5 dialect (rope_parameters). */
import { fail } from '@causeway/errors';
import { z } from 'zod';
import type { MlaConfig, MoeConfig, ModelConfig, RopeConfig } from './model-config.ts';

const size = z.number().int().min(1).max(100_000_000);
const positive = z.number().positive().finite();
const ids = z.union([z.number().int().nonnegative(), z.array(z.number().int().nonnegative())]);

const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: positive.optional(),
  factor: positive.optional(),
  low_freq_factor: positive.optional(),
  high_freq_factor: positive.optional(),
  original_max_position_embeddings: size.optional(),
  beta_fast: positive.optional(),
  beta_slow: positive.optional(),
  mscale: z.number().finite().optional(),
  mscale_all_dim: z.number().finite().optional(),
  attention_factor: positive.nullish(),
});

const configSchema = z.looseObject({
  model_type: z.string().min(1).max(128),
  hidden_size: size,
  num_hidden_layers: size.max(10_000),
  num_attention_heads: size.max(100_000),
  num_key_value_heads: size.max(100_000).nullish(),
  head_dim: size.nullish(),
  intermediate_size: size.optional(),
  vocab_size: size,
  max_position_embeddings: size.optional(),
  rms_norm_eps: positive.optional(),
  tie_word_embeddings: z.boolean().optional(),
  rope_theta: positive.optional(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  q_lora_rank: size.nullish(),
  kv_lora_rank: size.nullish(),
  qk_nope_head_dim: size.optional(),
  qk_rope_head_dim: size.optional(),
  v_head_dim: size.optional(),
  rope_interleave: z.boolean().optional(),
  n_routed_experts: size.nullish(),
  num_experts: size.nullish(),
  num_experts_per_tok: size.nullish(),
  n_group: size.nullish(),
  topk_group: size.nullish(),
  n_shared_experts: z.number().int().nonnegative().nullish(),
  moe_intermediate_size: size.optional(),
  first_k_dense_replace: z.number().int().nonnegative().optional(),
  norm_topk_prob: z.boolean().optional(),
  routed_scaling_factor: positive.optional(),
  scoring_func: z.string().optional(),
  eos_token_id: ids.nullish(),
  bos_token_id: ids.nullish(),
});
type HfConfig = z.infer<typeof configSchema>;

const DEFAULT_THETA = 10_000;
const DEFAULT_CONTEXT = 2048;
const DEFAULT_EPS = 1e-6;

/**
 * Normalises a parsed config.json. `generation` is generation_config.json, whose end-of-sequence ids are added.
 * @throws ServiceError `malformed_file` naming every field at fault.
 */
export function configFromHuggingFace(file: string, json: unknown, generation: unknown): ModelConfig {
  const text = z.looseObject({ text_config: z.looseObject({}).optional() }).safeParse(json);
  const inner = text.success && text.data.text_config !== undefined ? { ...text.data.text_config } : json;
  const parsed = configSchema.safeParse(inner);
  if (!parsed.success) fail('invalid_argument', 'malformed_file', `${file}: ${z.prettifyError(parsed.error)}`);
  const config = parsed.data;
  const mla = mlaConfig(config);
  return {
    architecture: config.model_type,
    hiddenSize: config.hidden_size,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
    headDim:
      mla === undefined
        ? (config.head_dim ?? Math.floor(config.hidden_size / config.num_attention_heads))
        : mla.qkNopeHeadDim + mla.qkRopeHeadDim,
    intermediateSize: config.intermediate_size ?? config.moe_intermediate_size ?? 0,
    vocabSize: config.vocab_size,
    contextLength: config.max_position_embeddings ?? DEFAULT_CONTEXT,
    rmsNormEps: config.rms_norm_eps ?? DEFAULT_EPS,
    tieWordEmbeddings: config.tie_word_embeddings ?? false,
    rope: ropeConfig(file, config),
    mla,
    moe: moeConfig(config),
    eosTokenIds: eosIds(config, generation),
    bosTokenId: Array.isArray(config.bos_token_id) ? config.bos_token_id[0] : (config.bos_token_id ?? undefined),
  };
}

function eosIds(config: HfConfig, generation: unknown): number[] {
  const more = z.looseObject({ eos_token_id: ids.nullish() }).safeParse(generation);
  const all = [config.eos_token_id, more.success ? more.data.eos_token_id : undefined];
  return [...new Set(all.flatMap((value) => value ?? []))];
}

function ropeConfig(file: string, config: HfConfig): RopeConfig {
  const rope = { ...config.rope_scaling, ...config.rope_parameters };
  const theta = rope.rope_theta ?? config.rope_theta ?? DEFAULT_THETA;
  const type = rope.rope_type ?? rope.type ?? 'default';
  const original = rope.original_max_position_embeddings ?? config.max_position_embeddings ?? DEFAULT_CONTEXT;
  const need = (name: string, value: number | undefined): number =>
    value ?? fail('invalid_argument', 'malformed_file', `${file}: RoPE type ${type} needs ${name}`);
  switch (type) {
    case 'default':
    case 'mrope':
      return { type: 'default', theta };
    case 'linear':
      return { type, theta, factor: need('factor', rope.factor) };
    case 'llama3':
      return {
        type,
        theta,
        factor: need('factor', rope.factor),
        lowFreqFactor: need('low_freq_factor', rope.low_freq_factor),
        highFreqFactor: need('high_freq_factor', rope.high_freq_factor),
        originalContextLength: original,
      };
    case 'yarn':
      return {
        type,
        theta,
        factor: need('factor', rope.factor),
        originalContextLength: original,
        betaFast: rope.beta_fast ?? 32,
        betaSlow: rope.beta_slow ?? 1,
        ...(rope.mscale === undefined ? {} : { mscale: rope.mscale }),
        ...(rope.mscale_all_dim === undefined ? {} : { mscaleAllDim: rope.mscale_all_dim }),
        ...(rope.attention_factor == null ? {} : { attentionFactor: rope.attention_factor }),
      };
    default:
      return fail(
        'unimplemented',
        'unsupported_format',
        `${file}: RoPE type ${type} is not supported; supported: default, linear, llama3, yarn`,
      );
  }
}

function mlaConfig(config: HfConfig): MlaConfig | undefined {
  const { kv_lora_rank: rank, qk_nope_head_dim: nope, qk_rope_head_dim: rope, v_head_dim: value } = config;
  if (rank == null || nope === undefined || rope === undefined || value === undefined) return undefined;
  return {
    qLoraRank: config.q_lora_rank ?? undefined,
    kvLoraRank: rank,
    qkNopeHeadDim: nope,
    qkRopeHeadDim: rope,
    vHeadDim: value,
    ropeInterleaved: config.rope_interleave ?? true,
  };
}

function moeConfig(config: HfConfig): MoeConfig | undefined {
  const experts = config.n_routed_experts ?? config.num_experts;
  if (experts == null || config.num_experts_per_tok == null || config.moe_intermediate_size === undefined) return undefined;
  return {
    experts,
    expertsPerToken: config.num_experts_per_tok,
    groups: config.n_group ?? 1,
    groupsPerToken: config.topk_group ?? 1,
    sharedExperts: config.n_shared_experts ?? 0,
    expertInner: config.moe_intermediate_size,
    firstDenseLayers: config.first_k_dense_replace ?? 0,
    normalizeTopK: config.norm_topk_prob ?? true,
    routedScale: config.routed_scaling_factor ?? 1,
    scoring: (config.scoring_func ?? (config.kv_lora_rank == null ? 'softmax' : 'sigmoid')) === 'softmax' ? 'softmax' : 'sigmoid',
  };
}
