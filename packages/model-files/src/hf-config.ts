/** Hugging Face config.json, in transformers' v4 and v5 dialects, as a ModelConfig. */
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { checkedConfig, LARGEST_SIZE } from './config-check.ts';
import { moeFields, readMoe } from './hf-moe.ts';
import { readRope, ropeSchema } from './hf-rope.ts';
import type { MlaConfig, ModelConfig } from './model-config.ts';

const size = z.number().int().min(1).max(LARGEST_SIZE);
const positive = z.number().positive().finite();
const ids = z.union([z.number().int().nonnegative(), z.array(z.number().int().nonnegative()).max(1000)]);
const object = z.looseObject({});
const wrapperSchema = z.looseObject({ text_config: object });
const nestedRopeSchema = z.looseObject({ main: object.optional(), full_attention: object.optional() });
const nameSchema = z.string().min(1).max(128);
const generationSchema = z.looseObject({ eos_token_id: ids.nullish() });

const configSchema = z.looseObject({
  ...moeFields,
  model_type: z.string(),
  hidden_size: size,
  num_hidden_layers: size.max(10_000),
  num_attention_heads: size.max(100_000),
  num_key_value_heads: size.max(100_000).nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
  max_position_embeddings: size.nullish(),
  rms_norm_eps: positive.nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  rope_theta: positive.optional(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  partial_rotary_factor: positive.nullish(),
  use_sliding_window: z.boolean().nullish(),
  sliding_window: size.nullish(),
  q_lora_rank: size.nullish(),
  kv_lora_rank: size.nullish(),
  qk_nope_head_dim: size.nullish(),
  qk_rope_head_dim: size.nullish(),
  v_head_dim: size.nullish(),
  rope_interleave: z.boolean().nullish(),
  eos_token_id: ids.nullish(),
  bos_token_id: ids.nullish(),
});
type HfConfig = z.infer<typeof configSchema>;

const DEFAULT_CONTEXT = 2048;
const DEFAULT_EPS = 1e-6;

/** Other names of a field (transformers' attribute_map of Kimi, Qwen, Mixtral, DeepSeek-V4). */
const ALIASES: Readonly<Record<string, readonly string[]>> = {
  n_routed_experts: ['num_experts', 'num_local_experts'],
  num_experts_per_tok: ['num_experts_per_token'],
  n_group: ['num_expert_group'],
  n_shared_experts: ['num_shared_experts'],
  norm_topk_prob: ['moe_renormalize'],
  max_position_embeddings: ['model_max_length'],
};
/** Fields that a multimodal wrapper may keep outside its text_config. */
const WRAPPED = ['eos_token_id', 'bos_token_id', 'tie_word_embeddings'];

/** Whether the language model's config is nested under `text_config`. */
export function isWrapped(json: unknown): boolean {
  return textConfig(json) !== undefined;
}

/** `model_type`, the language model's where there are several. @throws ServiceError `malformed_file`. */
export function huggingFaceArchitecture(file: string, json: unknown): string {
  const name = nameSchema.safeParse(inOneDialect(json).model_type);
  if (name.success) return name.data;
  return fail('invalid_argument', 'malformed_file', `${file}: model_type, the name of the architecture, is missing`);
}

/**
 * Normalises a parsed config.json, by the fields that architectures have in common. `generation` is generation_config.json, whose
 * end-of-sequence ids are added.
 * @throws ServiceError `malformed_file` naming every field at fault, `unsupported_format`.
 */
export function configFromHuggingFace(file: string, json: unknown, generation: unknown): ModelConfig {
  huggingFaceArchitecture(file, json);
  const parsed = configSchema.safeParse(inOneDialect(json));
  if (parsed.success) return checkedConfig(file, normalise(file, parsed.data, generation));
  return fail('invalid_argument', 'malformed_file', `${file}: ${z.prettifyError(parsed.error)}`);
}

function textConfig(json: unknown): Record<string, unknown> | undefined {
  const wrapper = wrapperSchema.safeParse(json);
  return wrapper.success ? wrapper.data.text_config : undefined;
}

function inOneDialect(json: unknown): Record<string, unknown> {
  const parsed = object.safeParse(json);
  const outer: Record<string, unknown> = parsed.success ? parsed.data : {};
  const inner = textConfig(json);
  const fields = inner === undefined ? { ...outer } : { ...inner };
  for (const name of inner === undefined ? [] : WRAPPED) fields[name] ??= outer[name];
  for (const [name, others] of Object.entries(ALIASES)) {
    for (const other of others) fields[name] ??= fields[other];
  }
  // One set of RoPE parameters per kind of layer (DeepSeek-V4, Gemma): take the plain layers' one.
  const nested = nestedRopeSchema.safeParse(fields.rope_parameters);
  if (nested.success) fields.rope_parameters = nested.data.main ?? nested.data.full_attention ?? fields.rope_parameters;
  return fields;
}

function normalise(file: string, config: HfConfig, generation: unknown): ModelConfig {
  const mla = readMla(config);
  const contextLength = config.max_position_embeddings ?? DEFAULT_CONTEXT;
  const bos = [config.bos_token_id ?? []].flat();
  return {
    architecture: config.model_type,
    hiddenSize: config.hidden_size,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
    headDim:
      mla === undefined
        ? (config.head_dim ?? config.hidden_size / config.num_attention_heads)
        : mla.qkNopeHeadDim + mla.qkRopeHeadDim,
    intermediateSize: config.intermediate_size ?? config.moe_intermediate_size ?? 0,
    vocabSize: config.vocab_size,
    contextLength,
    rmsNormEps: config.rms_norm_eps ?? DEFAULT_EPS,
    tieWordEmbeddings: config.tie_word_embeddings ?? false,
    rope: readRope(file, config, contextLength, mla !== undefined),
    slidingWindow: config.use_sliding_window === true ? (config.sliding_window ?? undefined) : undefined,
    mla,
    moe: readMoe(file, config, config.num_hidden_layers),
    eosTokenIds: eosIds(config, generation),
    bosTokenId: bos[0],
  };
}

function eosIds(config: HfConfig, generation: unknown): number[] {
  const more = generationSchema.safeParse(generation);
  const all = [config.eos_token_id, more.success ? more.data.eos_token_id : undefined];
  return [...new Set(all.flatMap((value) => value ?? []))];
}

function readMla(config: HfConfig): MlaConfig | undefined {
  const { kv_lora_rank: rank, qk_nope_head_dim: nope, qk_rope_head_dim: rope, v_head_dim: value } = config;
  if (rank == null || nope == null || rope == null || value == null) return undefined;
  return {
    qLoraRank: config.q_lora_rank ?? undefined,
    kvLoraRank: rank,
    qkNopeHeadDim: nope,
    qkRopeHeadDim: rope,
    vHeadDim: value,
    ropeInterleaved: config.rope_interleave ?? true,
  };
}
