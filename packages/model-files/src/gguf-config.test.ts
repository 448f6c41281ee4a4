import type { GgufMetadataValue } from '@causeway/testkit';
import { describe, expect, it } from 'vitest';
import { configFromGguf } from './gguf-config.ts';
import { readGguf } from './gguf.ts';
import { ggufBytes, LLAMA_METADATA, withMetadata } from './testing/gguf-writer.ts';
import { refusal } from './testing/scratch.ts';

function read(changes: Readonly<Record<string, GgufMetadataValue | undefined>> = {}, tensors: string[] = []) {
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

  it('takes control tokens that are known to end answers for such, whatever the keys name', () => {
    const tokens = ['a', '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|eom_id|>', '<|eot_id|>', '<|end_of_text|>'];
    const listed = {
      'tokenizer.ggml.tokens': { texts: tokens },
      'tokenizer.ggml.token_type': { i32s: [1, 3, 3, 3, 3, 1, 3] },
      'tokenizer.ggml.eos_token_id': { u32: 3 },
    };
    expect(read(listed).eosTokenIds).toEqual([3, 1, 4, 6]);
    expect(read({ ...listed, 'tokenizer.ggml.eom_token_id': { u32: 0 } }).eosTokenIds).toEqual([3, 0, 1, 4, 6]);
    expect(read({ ...listed, 'tokenizer.ggml.token_type': undefined }).eosTokenIds).toEqual([3]);
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

  it('reads a mixture of experts, and leaves open what the file does not say', async () => {
    expect((await refusal(() => read({ 'llama.expert_count': { u32: 8 } }))).message).toContain('expert_used_count is missing');
    const counts = { 'llama.expert_count': { u32: 8 }, 'llama.expert_used_count': { u32: 2 } };
    const plain = { experts: 8, expertsPerToken: 2, groups: 1, groupsPerToken: 1, sharedExperts: 0, firstDenseLayers: 0 };
    const silent = { normalizeTopK: undefined, scoring: undefined, correctionBias: undefined };
    expect(read(counts).moe).toEqual({ ...plain, ...silent, expertInner: 64, routedScale: 1 });
    expect(
      read({
        ...counts,
        'llama.expert_feed_forward_length': { u32: 16 },
        'llama.expert_gating_func': { u32: 1 },
        'llama.expert_shared_count': { u32: 1 },
        'llama.leading_dense_block_count': { u32: 1 },
        'llama.expert_group_count': { u32: 4 },
        'llama.expert_group_used_count': { u32: 2 },
        'llama.expert_weights_scale': { f32: 2.5 },
      }).moe,
    ).toEqual({
      ...silent,
      experts: 8,
      expertsPerToken: 2,
      groups: 4,
      groupsPerToken: 2,
      sharedExperts: 1,
      firstDenseLayers: 1,
      expertInner: 16,
      routedScale: 2.5,
      scoring: 'softmax',
    });
  });

  it('reads latent attention, whether K and V are in one tensor or two', async () => {
    const latent = {
      'llama.attention.kv_lora_rank': { u32: 16 },
      'llama.attention.q_lora_rank': { u32: 12 },
      'llama.rope.dimension_count': { u32: 4 },
    };
    const together = { 'llama.attention.key_length': { u32: 10 }, 'llama.attention.value_length': { u32: 8 } };
    const apart = {
      'llama.attention.key_length': { u32: 20 },
      'llama.attention.value_length': { u32: 16 },
      'llama.attention.key_length_mla': { u32: 10 },
      'llama.attention.value_length_mla': { u32: 8 },
      'llama.attention.head_count_kv': { u32: 1 },
    };
    const mla = { qLoraRank: 12, kvLoraRank: 16, qkNopeHeadDim: 6, qkRopeHeadDim: 4, vHeadDim: 8, ropeInterleaved: true };
    for (const lengths of [together, apart]) expect(read({ ...latent, ...lengths })).toMatchObject({ headDim: 10, mla });
    const oneStep = read({ ...latent, ...together, 'llama.attention.q_lora_rank': undefined });
    expect(oneStep.mla).toEqual({ ...mla, qLoraRank: undefined });
    const error = (changes: Readonly<Record<string, GgufMetadataValue | undefined>>) =>
      refusal(() => read({ ...latent, ...changes }));
    expect((await error({})).message).toContain('key_length is missing');
    expect((await error({ ...together, 'llama.rope.dimension_count': { u32: 10 } })).message).toContain('leaves nothing');
    expect((await error({ ...together, 'llama.rope.dimension_count': { u32: 3 } })).message).toContain('rotated in pairs');
  });

  it('reads the temperature of YaRN that DeepSeek files have', () => {
    const { rope } = read({
      'llama.rope.scaling.type': { text: 'yarn' },
      'llama.rope.scaling.factor': { f32: 4 },
      'llama.rope.scaling.original_context_length': { u32: 64 },
      'llama.rope.scaling.yarn_log_multiplier': { f32: 0.0707 },
    });
    expect(rope).toMatchObject({ mscale: expect.closeTo(0.707, 6), mscaleAllDim: expect.closeTo(0.707, 6) });
  });

  it('reads any architecture under its own prefix', async () => {
    const mamba = { 'general.architecture': { text: 'mamba' } };
    expect((await refusal(() => read(mamba))).message).toContain('mamba.attention.head_count is missing');
    const keys = LLAMA_METADATA.map(([key, value]) => [key.replace(/^llama\./, 'mamba.'), value] as const);
    expect(read({ ...Object.fromEntries(keys), ...mamba })).toEqual({ ...read(), architecture: 'mamba' });
  });

  it('refuses what is missing, no number, or would be computed wrongly', async () => {
    const error = (changes: Readonly<Record<string, GgufMetadataValue | undefined>>) => refusal(() => read(changes));
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
      { 'llama.expert_count': { u32: 8 }, 'llama.expert_used_count': { u32: 2 }, 'llama.expert_gating_func': { u32: 9 } },
      { 'llama.rope.dimension_count': { u32: 4 } },
      { 'llama.rope.scaling.type': { text: 'longrope' } },
    ]) {
      expect((await error(changes)).reason).toBe('unsupported_format');
    }
  });
});
