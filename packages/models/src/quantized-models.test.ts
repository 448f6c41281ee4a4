/** Whole models as quantised GGUF files have them, against the f32 model of the same numbers. */
import type { ModelConfig } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { QuantizedType } from './convert/quant-formats.ts';
import { loadModel } from './load-model.ts';
import { asGguf } from './testing/gguf-checkpoint.ts';
import { largestDifference, prefill } from './testing/logits.ts';
import {
  llamaShapes,
  memoryCheckpoint,
  seededNumbers,
  SMALL_LLAMA,
  storedF32,
  type StoredTensor,
} from './testing/memory-checkpoint.ts';
import { storedAs, widened } from './testing/quantized-blocks.ts';
import { SegmentRunner } from './testing/segment-runner.ts';
import type { Precision } from './types.ts';
import { wideProductsOf } from './wide-products.ts';

const CONFIG: ModelConfig = {
  ...SMALL_LLAMA,
  hiddenSize: 256,
  layers: 4,
  headDim: 64,
  intermediateSize: 512,
  vocabSize: 200,
};
const HEAD_NORMS = ['q_norm', 'k_norm'];

/** Types of a matrix by what it is and its layer, a mixture as llama.cpp's Q4_K_M is; layers 2 and 3 as where K-quants don't fit. */
function typeOf(name: string): QuantizedType {
  const [, layer = '0', part = ''] = /^model\.layers\.(\d+)\.\w+\.(\w+)\.weight$/.exec(name) ?? [];
  if (part === '') return 'Q6_K';
  const more = part === 'v_proj' || part === 'down_proj';
  const byLayer: readonly (readonly [usual: QuantizedType, more: QuantizedType])[] = [
    ['Q4_K', 'Q6_K'],
    ['Q5_K', 'Q4_K'],
    ['Q5_0', 'Q8_0'],
    ['Q5_1', 'Q4_0'],
  ];
  return byLayer[Number(layer)]?.[more ? 1 : 0] ?? 'Q8_0';
}

/** A model in Hugging Face's names, its matrices quantised. */
function quantizedTensors(config: ModelConfig): Map<string, StoredTensor> {
  const { hiddenSize, headDim, heads, kvHeads, architecture } = config;
  const shapes = llamaShapes(config);
  if (config.tieWordEmbeddings) shapes.delete('lm_head.weight');
  for (let layer = 0; layer < config.layers; layer++) {
    const name = `model.layers.${layer}.self_attn`;
    if (architecture === 'qwen3') for (const norm of HEAD_NORMS) shapes.set(`${name}.${norm}.weight`, [headDim]);
    if (architecture !== 'qwen2') continue;
    shapes.set(`${name}.q_proj.bias`, [heads * headDim]);
    for (const part of ['k_proj', 'v_proj']) shapes.set(`${name}.${part}.bias`, [kvHeads * headDim]);
  }
  let seed = 1;
  return new Map(
    [...shapes].map(([name, shape]) => {
      seed += 10;
      if (shape.length > 1) return [name, storedAs(typeOf(name), shape, seed, 2 / Math.sqrt(hiddenSize))];
      const numbers = seededNumbers(seed, shape[0] ?? 0, 0.3);
      return [name, storedF32(shape, name.endsWith('bias') ? numbers : numbers.map((value) => 1 + value))];
    }),
  );
}

describe.each([
  ['llama', false],
  ['qwen2', true],
  ['qwen3', false],
])('a mixed quantised GGUF file of %s', (architecture, tied) => {
  const config: ModelConfig = { ...CONFIG, architecture, tieWordEmbeddings: tied };
  const tensors = quantizedTensors(config);
  const ids = Array.from(seededNumbers(3, 40, 100), (value) => Math.floor(value + 100));
  let runtime: Runtime;
  beforeAll(() => {
    runtime = Runtime.create({ threads: 2 });
  });
  afterAll(async () => {
    await runtime[Symbol.asyncDispose]();
  });

  async function logits(form: 'gguf' | 'f32', precision: Precision, ...chunkings: number[][]): Promise<Float32Array[]> {
    const stored = form === 'gguf' ? tensors : new Map([...tensors].map(([name, tensor]) => [name, widened(tensor)]));
    using plain = memoryCheckpoint(config, stored);
    using written = asGguf(plain, architecture, architecture === 'llama');
    const model = await loadModel({ checkpoint: form === 'gguf' ? written : plain, precision, runtime });
    await using runner = await SegmentRunner.create(runtime, model, { batch: 1, capacity: 64 });
    const results: Float32Array[] = [];
    for (const chunks of chunkings) results.push(await prefill(runner, ids, chunks));
    return results;
  }

  it('exact: has the logits of its numbers in f32', async () => {
    const [wanted = new Float32Array()] = await logits('f32', 'exact', [40]);
    const [found = new Float32Array()] = await logits('gguf', 'exact', [40]);
    expect(Math.max(...wanted.map(Math.abs))).toBeGreaterThan(1);
    expect(largestDifference(found, wanted)).toBeLessThan(2e-3);
  });

  it('fast: is near to that', async () => {
    const [wanted = new Float32Array()] = await logits('f32', 'exact', [40]);
    const [found = new Float32Array()] = await logits('gguf', 'fast', [40]);
    const size = Math.max(...wanted.map(Math.abs));
    expect(largestDifference(found, wanted) / size).toBeLessThan(0.1);
  });

  it.each<[Precision, tried: boolean]>([
    ['exact', true],
    ['exact', false],
    ['fast', true],
  ])('%s, kernels tried %s: has weights of 8 bits in f32 only where f32 products need them', async (precision, tried) => {
    using plain = memoryCheckpoint(config, tensors);
    using checkpoint = asGguf(plain, architecture, architecture === 'llama');
    using model = await loadModel({ checkpoint, precision, ...(tried ? { runtime } : {}) });
    const wide = precision === 'exact' && (!tried || (await wideProductsOf(checkpoint, runtime)) === 'f32');
    const weights = await Promise.all(model.segments.map((segment) => segment.weights()));
    const tables = weights.flatMap((made) => [...made]).filter(([name]) => name.includes('embed_tokens'));
    const widened = weights.flatMap((made) => [...made]).filter(([name, { type }]) => name.includes('_proj') && type === 'f32');
    expect(widened.some(([name]) => name.endsWith('_proj.weight'))).toBe(wide);
    expect(tables.some(([, { type }]) => type === 'u8')).toBe(true);
    expect(tables.some(([, { type, shape }]) => type === 'f32' && shape.length === 2 && shape[1] === config.hiddenSize)).toBe(
      tied && wide,
    );
  });

  it.each<Precision>(['exact', 'fast'])('%s: gives the same bits however the prompt is cut', async (precision) => {
    const [whole = new Float32Array(), ...others] = await logits('gguf', precision, [40], [2, 38], [17, 3]);
    for (const other of others) expect(largestDifference(other, whole)).toBe(0);
  });
});
