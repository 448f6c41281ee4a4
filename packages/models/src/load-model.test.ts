import { ServiceError } from '@causeway/errors';
import type { Checkpoint, ModelConfig } from '@causeway/model-files';
import { liveBuffers, liveTensors, Runtime } from '@causeway/ort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KNOWN_ARCHITECTURES } from './registry.ts';
import { loadModel, type LoadOptions, type LoadProgress } from './load-model.ts';
import { largestDifference } from './testing/logits.ts';
import { memoryCheckpoint, SMALL_LLAMA, smallLlamaTensors, storedF32, type StoredTensor } from './testing/memory-checkpoint.ts';
import { SegmentRunner } from './testing/segment-runner.ts';

const Q_PROJ = 'model.layers.1.self_attn.q_proj.weight';

interface Case {
  config?: Partial<ModelConfig>;
  tensors?: (tensors: Map<string, StoredTensor>) => void;
  options?: Partial<LoadOptions>;
  format?: Checkpoint['format'];
}

/** The refusal of a checkpoint, after checking that nothing of it stays allocated. */
async function refusal({ config, tensors: change, options, format = 'safetensors' }: Case): Promise<ServiceError> {
  const tensors = smallLlamaTensors(SMALL_LLAMA);
  change?.(tensors);
  const before = [liveBuffers(), liveTensors()];
  const checkpoint = memoryCheckpoint({ ...SMALL_LLAMA, ...config }, tensors, { format });
  const error: unknown = await loadModel({ checkpoint, precision: 'exact', ...options }).catch((caught: unknown) => caught);
  checkpoint[Symbol.dispose]();
  expect([liveBuffers(), liveTensors()]).toEqual(before);
  if (!(error instanceof ServiceError)) throw new Error('nothing was refused', { cause: error });
  return error;
}

describe('loadModel refuses', () => {
  it('an architecture nobody wrote, and lists those there are', async () => {
    const error = await refusal({ config: { architecture: 'gpt_oracle' } });
    expect(error.reason).toBe('unknown_architecture');
    expect(error.message).toContain('"gpt_oracle"');
    for (const known of KNOWN_ARCHITECTURES) expect(error.message).toContain(known);
  });

  it("a GGUF file of an architecture by another file format's name, and lists those of GGUF files", async () => {
    for (const architecture of ['deepseek_v3', 'qwen3_moe']) {
      const error = await refusal({ config: { architecture }, format: 'gguf' });
      expect(error.reason).toBe('unknown_architecture');
      expect(error.message).toMatch(/gguf files; known are llama, qwen2, qwen3, qwen3moe, deepseek2$/);
    }
  });

  it('two tensors of a GGUF file that get the same name', async () => {
    const error = await refusal({
      format: 'gguf',
      tensors: (all) => all.set('token_embd.weight', storedF32([50, 64], new Float32Array(3200))),
    });
    expect([error.reason, error.message]).toEqual(['malformed_file', expect.stringContaining('there twice')]);
  });

  it('a checkpoint without one of its tensors, and names it', async () => {
    const error = await refusal({ tensors: (all) => all.delete(Q_PROJ) });
    expect([error.reason, error.message]).toEqual(['missing_tensor', `memory: the tensor ${Q_PROJ} is missing`]);
  });

  it('a tensor of another shape than the config says, with both shapes', async () => {
    const error = await refusal({ config: { heads: 8 } });
    expect(error.reason).toBe('wrong_shape');
    expect(error.message).toContain('self_attn.q_proj.weight is [64, 64]; its config wants [128, 64]');
  });

  it('a storage type without a kernel or a conversion', async () => {
    const error = await refusal({
      tensors: (all) => all.set(Q_PROJ, { type: 'Q3_K', shape: [64, 64], bytes: new Uint8Array(64 * 64) }),
    });
    expect(error.reason).toBe('unsupported_format');
    expect(error.message).toContain('Q3_K');
  });

  it('a tensor whose bytes do not fit its shape and type', async () => {
    const error = await refusal({
      tensors: (all) => all.set(Q_PROJ, { type: 'F32', shape: [64, 64], bytes: new Uint8Array(64) }),
    });
    expect([error.reason, error.message.includes('64 bytes')]).toEqual(['malformed_file', true]);
  });

  it('a quantised row that is no whole number of blocks', async () => {
    const error = await refusal({
      config: { hiddenSize: 48, heads: 3 },
      tensors: (all) => all.set('model.embed_tokens.weight', { type: 'Q8_0', shape: [50, 48], bytes: new Uint8Array(50 * 51) }),
    });
    expect(error.reason).toBe('malformed_file');
  });

  it.each([0, 2, -1, 0.5, Number.NaN])('a cut at layer %s of two', async (cut) => {
    expect((await refusal({ options: { cuts: [cut] } })).reason).toBe('bad_config');
  });

  it('to go on once it was cancelled, before or in the middle', async () => {
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, smallLlamaTensors(SMALL_LLAMA), { misalign: 1 });
    const cancelled = async (options: Pick<LoadOptions, 'signal' | 'onProgress'>): Promise<void> => {
      using model = await loadModel({ checkpoint, precision: 'exact', ...options });
      await expect(model.segments[0]?.weights()).rejects.toMatchObject({ reason: 'cancelled' });
    };
    await cancelled({ signal: AbortSignal.abort() });
    const controller = new AbortController();
    await cancelled({ signal: controller.signal, onProgress: () => controller.abort() });
  });

  it('heads that attention cannot take', async () => {
    expect((await refusal({ config: { headDim: 4, heads: 16, kvHeads: 8 } })).reason).toBe('unsupported_format');
    const tensors = (all: Map<string, StoredTensor>): void => {
      for (const part of ['k_proj', 'v_proj']) {
        all.set(`model.layers.0.self_attn.${part}.weight`, storedF32([48, 64], new Float32Array(48 * 64)));
      }
    };
    expect((await refusal({ config: { kvHeads: 3 }, tensors })).reason).toBe('malformed_file');
  });

  it('a context whose rotary tables would fill the memory', async () => {
    const error = await refusal({ config: { contextLength: 2 ** 40 } });
    expect([error.reason, error.message.includes('too long')]).toEqual(['unsupported_format', true]);
  });

  it('a choice of experts that cannot be made', async () => {
    const mla = { qLoraRank: 8, kvLoraRank: 8, qkNopeHeadDim: 8, qkRopeHeadDim: 8, vHeadDim: 8, ropeInterleaved: true };
    const moe = { experts: 8, groups: 4, groupsPerToken: 1, expertsPerToken: 3, sharedExperts: 1, expertInner: 8 };
    const rest = { firstDenseLayers: 0, normalizeTopK: true, routedScale: 1, scoring: 'sigmoid' as const, correctionBias: true };
    const config = { architecture: 'deepseek_v3', mla, moe: { ...moe, ...rest } };
    const error = await refusal({ config });
    expect([error.reason, error.message.includes('3 of 8 experts in 1 of 4 groups')]).toEqual(['malformed_file', true]);
  });

  it("routing that is not its architecture's, but not a config that says nothing of it", async () => {
    const mla = { qLoraRank: 8, kvLoraRank: 8, qkNopeHeadDim: 8, qkRopeHeadDim: 8, vHeadDim: 8, ropeInterleaved: true };
    const moe = { experts: 8, groups: 4, groupsPerToken: 2, expertsPerToken: 3, sharedExperts: 1, expertInner: 8 };
    const silent = { normalizeTopK: undefined, scoring: undefined, correctionBias: undefined };
    const reason = async (routing: object) => {
      const config = {
        architecture: 'deepseek_v3',
        mla,
        moe: { ...moe, firstDenseLayers: 0, routedScale: 1, ...silent, ...routing },
      };
      return (await refusal({ config })).reason;
    };
    expect(await reason({ scoring: 'softmax' })).toBe('unsupported_format');
    expect(await reason({ correctionBias: false })).toBe('unsupported_format');
    // It comes as far as the tensors.
    expect(await reason({})).toBe('missing_tensor');
  });

  it('what another architecture computes under the same name: experts, windows, biases left out', async () => {
    const moe = {
      experts: 8,
      groups: 1,
      groupsPerToken: 1,
      expertsPerToken: 2,
      sharedExperts: 0,
      expertInner: 8,
      routedScale: 1,
    };
    const silent = { firstDenseLayers: 0, normalizeTopK: undefined, scoring: undefined, correctionBias: undefined };
    for (const architecture of ['llama', 'qwen2', 'qwen3']) {
      const error = await refusal({ config: { architecture, moe: { ...moe, ...silent } } });
      expect([error.reason, error.message.includes('8 experts')]).toEqual(['unsupported_format', true]);
    }
    for (const architecture of ['qwen2', 'qwen3', 'qwen3_moe']) {
      const error = await refusal({ config: { architecture, slidingWindow: 4096, moe: undefined } });
      expect([error.reason, error.message.includes('4096')]).toEqual(['unsupported_format', true]);
    }
    expect((await refusal({ config: { architecture: 'qwen2' } })).message).toContain('q_proj.bias is missing');
    expect((await refusal({ config: { architecture: 'qwen3' } })).message).toContain('q_norm.weight is missing');
    expect((await refusal({ config: { architecture: 'qwen3_moe' } })).reason).toBe('malformed_file');
    for (const routing of [{ scoring: 'sigmoid' as const }, { groups: 2 }, { sharedExperts: 1 }]) {
      const config = { architecture: 'qwen3_moe', moe: { ...moe, ...silent, ...routing } };
      expect((await refusal({ config })).reason).toBe('unsupported_format');
    }
  });

  it('latent attention without its sizes', async () => {
    for (const architecture of ['deepseek_v3', 'kimi_k2'])
      expect((await refusal({ config: { architecture } })).reason).toBe('malformed_file');
  });
});

describe('loadModel', () => {
  let runtime: Runtime;
  beforeAll(() => {
    runtime = Runtime.create({ threads: 2 });
  });
  afterAll(async () => {
    await runtime[Symbol.asyncDispose]();
  });

  async function logits(
    tensors: Map<string, StoredTensor>,
    misalign: number,
    options: Pick<LoadOptions, 'segmentBytes'> = {},
  ): Promise<Float32Array> {
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors, { misalign });
    await using runner = await SegmentRunner.create(runtime, await loadModel({ checkpoint, precision: 'exact', ...options }), {
      batch: 1,
      capacity: 16,
    });
    return await runner.run({ ids: [[1, 2, 3, 4, 5]], past: [0] });
  }

  it('reads f32 weights where they lie, and converts those at an odd address to the same numbers', async () => {
    const tensors = smallLlamaTensors(SMALL_LLAMA);
    expect(largestDifference(await logits(tensors, 0), await logits(tensors, 3))).toBe(0);
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors);
    using model = await loadModel({ checkpoint, precision: 'exact' });
    const weight = (await model.segments[0]?.weights())?.get(Q_PROJ);
    expect(weight?.buffer).toBe(checkpoint.data(Q_PROJ).buffer);
    expect(weight?.offset).toBe(checkpoint.data(Q_PROJ).offset);
  });

  it('cuts a large checkpoint everywhere, its ends too, with the same bits', async () => {
    const tensors = smallLlamaTensors(SMALL_LLAMA);
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors);
    using model = await loadModel({ checkpoint, precision: 'exact', segmentBytes: 1000 });
    expect(model.segments.map(({ cacheLayers }) => cacheLayers)).toEqual([[], [0], [1], []]);
    using whole = await loadModel({ checkpoint, precision: 'exact' });
    expect(whole.segments).toHaveLength(1);
    expect(largestDifference(await logits(tensors, 1, { segmentBytes: 1000 }), await logits(tensors, 0))).toBe(0);
  });

  it('widens bf16 weights to the f32 of the same value', async () => {
    const rounded = smallLlamaTensors(SMALL_LLAMA);
    const halves = new Map<string, StoredTensor>();
    for (const [name, tensor] of rounded) {
      const words = new Uint32Array(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.byteLength / 4);
      for (let i = 0; i < words.length; i++) words[i] = (words[i] ?? 0) & 0xffff0000;
      const bf16 = Uint16Array.from(words, (word) => word >>> 16);
      halves.set(name, { type: 'BF16', shape: tensor.shape, bytes: new Uint8Array(bf16.buffer) });
    }
    expect(largestDifference(await logits(rounded, 0), await logits(halves, 0))).toBe(0);
  });

  it('divides rotary frequencies as a GGUF file with rope_freqs says', async () => {
    const plain = smallLlamaTensors(SMALL_LLAMA);
    const divided = new Map(plain).set('rope_freqs.weight', storedF32([8], new Float32Array(8).fill(4)));
    using linear = memoryCheckpoint({ ...SMALL_LLAMA, rope: { type: 'linear', theta: 10_000, factor: 4 } }, plain);
    await using runner = await SegmentRunner.create(runtime, await loadModel({ checkpoint: linear, precision: 'exact' }), {
      batch: 1,
      capacity: 16,
    });
    const wanted = await runner.run({ ids: [[1, 2, 3, 4, 5]], past: [0] });
    expect(largestDifference(await logits(divided, 0), wanted)).toBe(0);
    expect(largestDifference(await logits(plain, 0), wanted)).toBeGreaterThan(1e-3);
  });

  it('reports progress up to all bytes, and says what it made', async () => {
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, smallLlamaTensors(SMALL_LLAMA), { misalign: 1 });
    const seen: LoadProgress[] = [];
    using model = await loadModel({ checkpoint, precision: 'exact', cuts: [1], onProgress: (progress) => seen.push(progress) });
    for (const segment of model.segments) await segment.weights();
    const last = seen.at(-1);
    expect(last?.convertedBytes).toBe(last?.totalBytes);
    expect(seen.every((step, i) => step.convertedBytes >= (seen[i - 1]?.convertedBytes ?? 0))).toBe(true);
    expect(model.segments.map(({ content, cacheLayers }) => ({ content, cacheLayers }))).toEqual([
      { content: { kind: 'decoder', layers: [0] }, cacheLayers: [0] },
      { content: { kind: 'decoder', layers: [1] }, cacheLayers: [1] },
    ]);
    expect(model.segments[0]?.outputs.map(({ name }) => name)).toEqual(['delta.1', 'residual.1']);
    expect(model.segments[1]?.inputs.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['delta.1', 'residual.1', 'logit_rows']),
    );
    expect(model.layers).toEqual(Array.from({ length: 2 }, () => ({ kind: 'full', kvHeads: 2, headDimK: 16, headDimV: 16 })));
  });

  it('frees converted weights, once', async () => {
    const before = [liveBuffers(), liveTensors()];
    const checkpoint = memoryCheckpoint(SMALL_LLAMA, smallLlamaTensors(SMALL_LLAMA), { misalign: 1 });
    const model = await loadModel({ checkpoint, precision: 'exact', cuts: [1] });
    // The checkpoint's own.
    expect(liveBuffers()).toBe((before[0] ?? 0) + 1);
    const [first, second] = model.segments;
    await first?.weights();
    const some = liveBuffers();
    expect(some).toBeGreaterThan((before[0] ?? 0) + 1);
    await second?.weights();
    expect(liveBuffers()).toBeGreaterThan(some);
    // Both have the rotary tables.
    first?.releaseWeights();
    first?.releaseWeights();
    const rest = liveBuffers();
    second?.releaseWeights();
    expect(rest).toBeGreaterThan(liveBuffers());
    expect(liveBuffers()).toBe((before[0] ?? 0) + 1);
    await first?.weights();
    model.releaseWeights();
    model.releaseWeights();
    model[Symbol.dispose]();
    checkpoint[Symbol.dispose]();
    expect([liveBuffers(), liveTensors()]).toEqual(before);
  });
});
