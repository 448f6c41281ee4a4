import { describe, expect, it } from 'vitest';
import { configFromHuggingFace, huggingFaceArchitecture } from './hf-config.ts';
import { refusal } from './testing/scratch.ts';

const llama = {
  model_type: 'llama',
  hidden_size: 64,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 128,
  vocab_size: 257,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
};
const deepseek = {
  ...llama,
  model_type: 'deepseek_v3',
  num_key_value_heads: 4,
  q_lora_rank: 24,
  kv_lora_rank: 32,
  qk_nope_head_dim: 16,
  qk_rope_head_dim: 8,
  v_head_dim: 16,
  n_routed_experts: 8,
  num_experts_per_tok: 3,
  n_group: 4,
  topk_group: 2,
  n_shared_experts: 1,
  moe_intermediate_size: 32,
  first_k_dense_replace: 1,
  routed_scaling_factor: 2.5,
};
const read = (json: unknown, generation?: unknown) => configFromHuggingFace('config.json', json, generation);
const rope = (fields: object) => read({ ...llama, ...fields }).rope;

describe('configFromHuggingFace', () => {
  it('reads the sizes of a dense model, deriving what is not said', () => {
    expect(read(llama)).toEqual({
      architecture: 'llama',
      hiddenSize: 64,
      layers: 3,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      intermediateSize: 128,
      vocabSize: 257,
      contextLength: 2048,
      rmsNormEps: 1e-5,
      tieWordEmbeddings: false,
      rope: { type: 'default', theta: 10_000 },
      mla: undefined,
      moe: undefined,
      eosTokenIds: [],
      bosTokenId: undefined,
    });
    const { num_key_value_heads: _, ...everyHead } = llama;
    expect(read({ ...everyHead, head_dim: 32 })).toMatchObject({ kvHeads: 4, headDim: 32 });
  });

  it('reads both dialects of RoPE alike', () => {
    const numbers = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 };
    const wanted = { type: 'llama3', theta: 5e5, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 64 };
    expect(rope({ rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...numbers } })).toEqual(wanted);
    expect(rope({ rope_theta: 5e5, rope_scaling: { type: 'llama3', ...numbers } })).toEqual(wanted);
    expect(rope({ rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...numbers } })).toEqual(wanted);
    expect(rope({ rope_theta: 7, rope_scaling: null })).toEqual({ type: 'default', theta: 7 });
    expect(rope({ rope_scaling: { type: 'linear', factor: 2 } })).toEqual({ type: 'linear', theta: 10_000, factor: 2 });
  });

  it('reads YaRN with and without its temperatures', () => {
    const yarn = { type: 'yarn', factor: 40, original_max_position_embeddings: 4096 };
    const base = { type: 'yarn', theta: 10_000, factor: 40, originalContextLength: 4096, betaFast: 32, betaSlow: 1 };
    expect(rope({ rope_scaling: yarn })).toEqual(base);
    expect(rope({ rope_scaling: { ...yarn, beta_fast: 2, mscale: 1, mscale_all_dim: 0.7, attention_factor: null } })).toEqual({
      ...base,
      betaFast: 2,
      mscale: 1,
      mscaleAllDim: 0.7,
    });
  });

  it('reads latent attention and experts of DeepSeek-V3', () => {
    expect(read(deepseek)).toMatchObject({
      headDim: 24,
      mla: { qLoraRank: 24, kvLoraRank: 32, qkNopeHeadDim: 16, qkRopeHeadDim: 8, vHeadDim: 16, ropeInterleaved: true },
      moe: {
        experts: 8,
        expertsPerToken: 3,
        groups: 4,
        groupsPerToken: 2,
        sharedExperts: 1,
        expertInner: 32,
        firstDenseLayers: 1,
        routedScale: 2.5,
        normalizeTopK: undefined,
        scoring: undefined,
        correctionBias: undefined,
      },
    });
    const routing = { norm_topk_prob: true, scoring_func: 'sigmoid', topk_method: 'noaux_tc' };
    expect(read({ ...deepseek, ...routing }).moe).toMatchObject({
      normalizeTopK: true,
      scoring: 'sigmoid',
      correctionBias: true,
    });
    expect(read({ ...deepseek, scoring_func: 'softmax', topk_method: 'greedy' }).moe).toMatchObject({
      scoring: 'softmax',
      correctionBias: false,
    });
    expect(read({ ...deepseek, q_lora_rank: null, rope_interleave: false }).mla).toMatchObject({
      qLoraRank: undefined,
      ropeInterleaved: false,
    });
  });

  it('knows the same field under the names of other families', () => {
    const kimi = {
      ...llama,
      model_type: 'kimi_linear',
      num_experts: 8,
      num_experts_per_token: 2,
      num_expert_group: 2,
      topk_group: 1,
      num_shared_experts: 3,
      moe_renormalize: false,
      moe_intermediate_size: 32,
    };
    expect(read(kimi).moe).toMatchObject({ experts: 8, expertsPerToken: 2, groups: 2, sharedExperts: 3, normalizeTopK: false });
    const qwen = {
      ...llama,
      model_type: 'qwen3_moe',
      num_local_experts: 8,
      num_experts_per_tok: 2,
      moe_intermediate_size: 32,
      mlp_only_layers: [1, 0],
    };
    expect(read(qwen).moe).toMatchObject({
      experts: 8,
      scoring: undefined,
      correctionBias: undefined,
      normalizeTopK: undefined,
      firstDenseLayers: 2,
    });
  });

  it('finds the language model inside a multimodal one', () => {
    const config = read({ model_type: 'kimi_k25', eos_token_id: 9, text_config: { ...deepseek, bos_token_id: 3 } });
    expect(config).toMatchObject({ architecture: 'deepseek_v3', hiddenSize: 64, eosTokenIds: [9], bosTokenId: 3 });
  });

  it('joins the ends of sequence of both files', () => {
    expect(read({ ...llama, eos_token_id: 2, bos_token_id: 1 }, { eos_token_id: [2, 7] })).toMatchObject({
      eosTokenIds: [2, 7],
      bosTokenId: 1,
    });
    expect(read({ ...llama, eos_token_id: [5, 6] }, { eos_token_id: null }).eosTokenIds).toEqual([5, 6]);
  });
});

describe('huggingFaceArchitecture', () => {
  it('is the model_type of the language model, whether or not its config can be read', async () => {
    const name = (json: unknown) => huggingFaceArchitecture('config.json', json);
    expect(name({ model_type: 'gpt2', n_embd: 768 })).toBe('gpt2');
    expect(name({ ...llama, model_type: 'phi3', rope_scaling: { type: 'longrope' } })).toBe('phi3');
    expect(name({ model_type: 'kimi_k25', text_config: deepseek })).toBe('deepseek_v3');
    expect((await refusal(() => name({ model_type: 7 }))).message).toContain('model_type');
  });
});

describe('configFromHuggingFace refuses', () => {
  it('missing and impossible fields, by name', async () => {
    const { hidden_size: _, ...headless } = llama;
    expect((await refusal(() => read({ ...headless, vocab_size: 2 ** 60 }))).message).toMatch(/hidden_size(.|\n)*vocab_size/);
    expect((await refusal(() => read({ ...llama, num_hidden_layers: 1e9 }))).message).toContain('num_hidden_layers');
    expect((await refusal(() => read({}))).message).toContain('model_type');
    expect((await refusal(() => read([1]))).message).toContain('model_type');
    expect((await refusal(() => read({ ...llama, rope_theta: -1 }))).message).toContain('rope_theta');
  });

  it('RoPE that would silently be computed as another', async () => {
    const reason = async (fields: object) => (await refusal(() => rope(fields))).reason;
    expect(await reason({ rope_scaling: { type: 'longrope', factor: 4 } })).toBe('unsupported_format');
    expect(await reason({ partial_rotary_factor: 0.5 })).toBe('unsupported_format');
    expect(await reason({ rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.25 } })).toBe('unsupported_format');
    expect(await reason({ rope_scaling: { type: 'yarn' } })).toBe('malformed_file');
  });

  it('fields that contradict each other', async () => {
    const message = async (json: unknown) => (await refusal(() => read(json))).message;
    expect(await message({ ...llama, num_key_value_heads: 3 })).toContain('3 key-value heads');
    expect(await message({ ...llama, hidden_size: 66 })).toContain('hidden size 66');
    expect(await message({ ...llama, head_dim: 15 })).toContain('15 elements');
    expect(await message({ ...deepseek, n_group: 3 })).toContain('3 groups');
    expect(await message({ ...deepseek, topk_group: 5 })).toContain('5 groups per token');
    expect(await message({ ...deepseek, num_experts_per_tok: 5 })).toContain('5 experts per token');
    expect(await message({ ...deepseek, first_k_dense_replace: 4 })).toContain('4 dense layers');
  });

  it('routing that is not known, and dense layers between MoE layers', async () => {
    const reason = async (fields: object) => (await refusal(() => read({ ...deepseek, ...fields }))).reason;
    expect(await reason({ scoring_func: 'relu' })).toBe('unsupported_format');
    expect(await reason({ moe_layer_freq: 2 })).toBe('unsupported_format');
    expect(await reason({ first_k_dense_replace: null, mlp_layer_types: ['sparse', 'dense', 'sparse'] })).toBe(
      'unsupported_format',
    );
  });
});
