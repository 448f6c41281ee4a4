import type { ModelConfig } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../load-model.ts';
import { asGguf } from '../testing/gguf-checkpoint.ts';
import { largestDifference, prefill } from '../testing/logits.ts';
import { memoryCheckpoint, seededNumbers, SMALL_LLAMA, storedF32, type StoredTensor } from '../testing/memory-checkpoint.ts';
import { SegmentRunner } from '../testing/segment-runner.ts';

const EXPERTS = 4;
const CHOSEN = 2;
/** Like DeepSeek-V2-Lite: queries in one step, and a config that says nothing of routing. */
const CONFIG: ModelConfig = {
  ...SMALL_LLAMA,
  architecture: 'deepseek2',
  kvHeads: 1,
  mla: { qLoraRank: undefined, kvLoraRank: 32, qkNopeHeadDim: 16, qkRopeHeadDim: 8, vHeadDim: 16, ropeInterleaved: true },
  moe: {
    experts: EXPERTS,
    expertsPerToken: CHOSEN,
    groups: 1,
    groupsPerToken: 1,
    sharedExperts: 0,
    expertInner: SMALL_LLAMA.intermediateSize,
    firstDenseLayers: 0,
    // An even softmax gives each expert a share of 1 / EXPERTS: together the chosen count once.
    routedScale: EXPERTS / CHOSEN,
    normalizeTopK: undefined,
    scoring: undefined,
    correctionBias: undefined,
  },
};

/** The same dense MLP in every layer, or experts that all are it, chosen by a router of zeros. */
function tensors(dense: boolean): Map<string, StoredTensor> {
  const { hiddenSize: hidden, heads, intermediateSize: inner, vocabSize } = CONFIG;
  const all = new Map<string, StoredTensor>();
  let seed = 1;
  const add = (name: string, ...shape: number[]): void => {
    const count = shape.reduce((product, dim) => product * dim, 1);
    all.set(`${name}.weight`, storedF32(shape, seededNumbers(seed++, count, shape.length === 1 ? 1 : 0.3)));
  };
  add('model.embed_tokens', vocabSize, hidden);
  add('model.norm', hidden);
  add('lm_head', vocabSize, hidden);
  for (let layer = 0; layer < CONFIG.layers; layer++) {
    const name = `model.layers.${layer}`;
    add(`${name}.input_layernorm`, hidden);
    add(`${name}.post_attention_layernorm`, hidden);
    add(`${name}.self_attn.q_proj`, heads * 24, hidden);
    add(`${name}.self_attn.kv_a_proj_with_mqa`, 40, hidden);
    add(`${name}.self_attn.kv_a_layernorm`, 32);
    add(`${name}.self_attn.kv_b_proj`, heads * 32, 32);
    add(`${name}.self_attn.o_proj`, hidden, heads * 16);
    if (!dense) all.set(`${name}.mlp.gate.weight`, storedF32([EXPERTS, hidden], new Float32Array(EXPERTS * hidden)));
    const start = seed;
    for (let expert = 0; expert < (dense ? 1 : EXPERTS); expert++) {
      seed = start;
      const mlp = dense ? `${name}.mlp` : `${name}.mlp.experts.${expert}`;
      add(`${mlp}.gate_proj`, inner, hidden);
      add(`${mlp}.up_proj`, inner, hidden);
      add(`${mlp}.down_proj`, hidden, inner);
    }
  }
  return all;
}

describe('a GGUF file of deepseek2 that is silent about routing', () => {
  let runtime: Runtime;
  beforeAll(() => {
    runtime = Runtime.create({ threads: 2 });
  });
  afterAll(async () => {
    await runtime[Symbol.asyncDispose]();
  });

  async function logits(dense: boolean): Promise<Float32Array> {
    const config = dense ? { ...CONFIG, moe: undefined } : CONFIG;
    using plain = memoryCheckpoint(config, tensors(dense));
    using checkpoint = asGguf(plain, 'deepseek2', false, true);
    const model = await loadModel({ checkpoint, precision: 'exact' });
    await using runner = await SegmentRunner.create(runtime, model, { batch: 1, capacity: 16 });
    return await prefill(runner, [3, 1, 4, 1, 5, 9, 2, 6], [8]);
  }

  it('weighs experts by their share of the softmax over all, times the scale of the file', async () => {
    const wanted = await logits(true);
    expect(Math.max(...wanted.map(Math.abs))).toBeGreaterThan(1);
    expect(largestDifference(await logits(false), wanted)).toBeLessThan(1e-4);
  });
});
