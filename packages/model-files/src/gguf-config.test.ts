import { describe, expect, it } from 'vitest';
import { configFromGguf } from './gguf-config.ts';
import { hasPermutedRope, huggingFaceName } from './gguf-names.ts';
import { readGguf } from './gguf.ts';
import { ggufBytes, LLAMA_METADATA, type MetadataValue, withMetadata } from './testing/gguf-writer.ts';
import { refusal } from './testing/scratch.ts';

function read(changes: Readonly<Record<string, MetadataValue | undefined>> = {}, tensors: string[] = []) {
  const file = {
    metadata: withMetadata(LLAMA_METADATA, changes),
    tensors: tensors.map((name) => ({ name, dims: [8, 5], bytes: new Uint8Array(160) })),
  };
  return configFromGguf('x.gguf', readGguf('x.gguf', ggufBytes(file)));
}

describe('configFromGguf', () => {
  it('reads the sizes of a llama', () => {
    expect(
      read({
        'tokenizer.ggml.eos_token_id': { u32: 4 },
        'tokenizer.ggml.eot_token_id': { u32: 6 },
        'tokenizer.ggml.bos_token_id': { u32: 1 },
      }),
    ).toEqual({
      architecture: 'llama',
      hiddenSize: 32,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      intermediateSize: 64,
      vocabSize: 7,
      contextLength: 128,
      rmsNormEps: 0.5,
      tieWordEmbeddings: true,
      rope: { type: 'default', theta: 10_000 },
      mla: undefined,
      moe: undefined,
      eosTokenIds: [4, 6],
      bosTokenId: 1,
    });
  });

  it('takes the vocabulary from the embedding, and ties it when there is no output', () => {
    expect(read({}, ['token_embd.weight', 'output.weight'])).toMatchObject({ vocabSize: 5, tieWordEmbeddings: false });
  });

  it('takes one value for all layers from a list that agrees', async () => {
    expect(read({ 'llama.attention.head_count_kv': { i32s: [2, 2] } }).kvHeads).toBe(2);
    expect((await refusal(() => read({ 'llama.attention.head_count_kv': { i32s: [2, 1] } }))).message).toContain('head_count_kv');
  });

  it('reads scaled RoPE', () => {
    const scaled = (type: string) => ({ 'llama.rope.scaling.type': { text: type }, 'llama.rope.scaling.factor': { f32: 4 } });
    expect(read(scaled('linear')).rope).toEqual({ type: 'linear', theta: 10_000, factor: 4 });
    const yarn = { ...scaled('yarn'), 'llama.rope.scaling.original_context_length': { u32: 64 } };
    expect(read(yarn).rope).toEqual({
      type: 'yarn',
      theta: 10_000,
      factor: 4,
      originalContextLength: 64,
      betaFast: 32,
      betaSlow: 1,
    });
  });

  it('passes an architecture that it cannot read with its name', () => {
    expect(read({ 'general.architecture': { text: 'mamba' } })).toMatchObject({ architecture: 'mamba', layers: 0 });
  });

  it('refuses what is missing, no number, or would be computed wrongly', async () => {
    const error = (changes: Readonly<Record<string, MetadataValue | undefined>>) => refusal(() => read(changes));
    expect((await error({ 'general.architecture': undefined })).message).toContain('general.architecture');
    expect((await error({ 'llama.block_count': undefined })).message).toContain('llama.block_count is missing');
    expect((await error({ 'llama.block_count': { text: 'two' } })).message).toContain(
      'llama.block_count is not a positive number: two',
    );
    expect((await error({ 'llama.block_count': { f32: 1.5 } })).message).toContain('not a whole number');
    expect((await error({ 'llama.embedding_length': { u64: 2n ** 63n } })).message).toContain('llama.embedding_length');
    expect((await error({ 'llama.rope.freq_base': { f32: Number.NaN } })).message).toContain('llama.rope.freq_base');
    expect((await error({ 'llama.embedding_length': { u32: 33 } })).message).toContain('8.25');
    for (const changes of [
      { 'llama.expert_count': { u32: 8 } },
      { 'llama.rope.dimension_count': { u32: 4 } },
      { 'llama.rope.scaling.type': { text: 'longrope' } },
    ]) {
      expect((await error(changes)).reason).toBe('unsupported_format');
    }
  });
});

describe('huggingFaceName', () => {
  it.each([
    ['token_embd.weight', 'model.embed_tokens.weight'],
    ['output_norm.weight', 'model.norm.weight'],
    ['output.weight', 'lm_head.weight'],
    ['blk.0.attn_norm.weight', 'model.layers.0.input_layernorm.weight'],
    ['blk.12.attn_q.weight', 'model.layers.12.self_attn.q_proj.weight'],
    ['blk.12.attn_q.bias', 'model.layers.12.self_attn.q_proj.bias'],
    ['blk.3.attn_k.weight', 'model.layers.3.self_attn.k_proj.weight'],
    ['blk.3.attn_v.weight', 'model.layers.3.self_attn.v_proj.weight'],
    ['blk.3.attn_output.weight', 'model.layers.3.self_attn.o_proj.weight'],
    ['blk.3.ffn_norm.weight', 'model.layers.3.post_attention_layernorm.weight'],
    ['blk.3.ffn_gate.weight', 'model.layers.3.mlp.gate_proj.weight'],
    ['blk.3.ffn_up.weight', 'model.layers.3.mlp.up_proj.weight'],
    ['blk.3.ffn_down.weight', 'model.layers.3.mlp.down_proj.weight'],
  ])('%s is %s', (gguf, name) => {
    expect(huggingFaceName('llama', gguf)).toBe(name);
  });

  it.each(['rope_freqs.weight', 'blk.0.constructor.weight', 'toString.weight', 'blk.x.attn_q.weight', 'weight', ''])(
    'leaves %s as it is',
    (name) => {
      expect(huggingFaceName('llama', name)).toBe(name);
    },
  );

  it('has a table per architecture; only llama permutes Q and K', () => {
    expect(huggingFaceName('qwen3', 'blk.1.attn_q_norm.weight')).toBe('model.layers.1.self_attn.q_norm.weight');
    expect(huggingFaceName('llama', 'blk.1.attn_q_norm.weight')).toBe('blk.1.attn_q_norm.weight');
    expect([hasPermutedRope('llama'), hasPermutedRope('qwen3'), hasPermutedRope('mamba')]).toEqual([true, false, false]);
  });
});
