import type { ModelConfig } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from './load-model.ts';
import { largestDifference, prefill } from './testing/logits.ts';
import { memoryCheckpoint, seededNumbers, SMALL_LLAMA, storedF32, type StoredTensor } from './testing/memory-checkpoint.ts';
import { SegmentRunner } from './testing/segment-runner.ts';

const HIDDEN = 32;
const HEADS = 2;
const NOPE = 8;
const ROPE = 8;
const VALUE = 12;

function config(rank: number): ModelConfig {
  return {
    ...SMALL_LLAMA,
    architecture: 'deepseek_v3',
    hiddenSize: HIDDEN,
    layers: 1,
    heads: HEADS,
    intermediateSize: 40,
    mla: {
      qLoraRank: undefined,
      kvLoraRank: rank,
      qkNopeHeadDim: NOPE,
      qkRopeHeadDim: ROPE,
      vHeadDim: VALUE,
      ropeInterleaved: true,
    },
  };
}

/** One layer whose latent has `used` live channels of `rank`; the others are zero and change nothing. */
function tensors(used: number, rank: number): Map<string, StoredTensor> {
  const attention = 'model.layers.0.self_attn';
  const mlp = 'model.layers.0.mlp';
  const random = (seed: number, ...shape: number[]): StoredTensor =>
    storedF32(
      shape,
      seededNumbers(
        seed,
        shape.reduce((a, b) => a * b, 1),
        0.5,
      ),
    );
  const ones = (count: number, value = 1): StoredTensor => storedF32([count], new Float32Array(count).fill(value));
  const latent = new Float32Array((rank + ROPE) * HIDDEN);
  const live = seededNumbers(4, (used + ROPE) * HIDDEN, 0.5);
  latent.set(live.subarray(0, used * HIDDEN));
  latent.set(live.subarray(used * HIDDEN), rank * HIDDEN);
  const perHead = seededNumbers(5, HEADS * (NOPE + VALUE) * used, 0.5);
  const expand = new Float32Array(HEADS * (NOPE + VALUE) * rank);
  for (let row = 0; row < HEADS * (NOPE + VALUE); row++) expand.set(perHead.subarray(row * used, (row + 1) * used), row * rank);
  return new Map([
    ['model.embed_tokens.weight', random(1, SMALL_LLAMA.vocabSize, HIDDEN)],
    ['model.norm.weight', ones(HIDDEN)],
    ['lm_head.weight', random(2, SMALL_LLAMA.vocabSize, HIDDEN)],
    ['model.layers.0.input_layernorm.weight', ones(HIDDEN)],
    ['model.layers.0.post_attention_layernorm.weight', ones(HIDDEN)],
    [`${attention}.q_proj.weight`, random(3, HEADS * (NOPE + ROPE), HIDDEN)],
    [`${attention}.kv_a_proj_with_mqa.weight`, storedF32([rank + ROPE, HIDDEN], latent)],
    // The mean of squares runs over all channels: the zero ones make it smaller by used / rank.
    [`${attention}.kv_a_layernorm.weight`, ones(rank, Math.sqrt(used / rank))],
    [`${attention}.kv_b_proj.weight`, storedF32([HEADS * (NOPE + VALUE), rank], expand)],
    [`${attention}.o_proj.weight`, random(6, HIDDEN, HEADS * VALUE)],
    [`${mlp}.gate_proj.weight`, random(7, 40, HIDDEN)],
    [`${mlp}.up_proj.weight`, random(8, 40, HIDDEN)],
    [`${mlp}.down_proj.weight`, random(9, HIDDEN, 40)],
  ]);
}

describe('latentAttention', () => {
  let runtime: Runtime;
  beforeAll(() => {
    runtime = Runtime.create({ threads: 2 });
  });
  afterAll(async () => {
    await runtime[Symbol.asyncDispose]();
  });

  async function logits(rank: number): Promise<Float32Array> {
    using checkpoint = memoryCheckpoint(config(rank), tensors(12, rank));
    const model = await loadModel({ checkpoint, precision: 'exact' });
    await using runner = await SegmentRunner.create(runtime, model, { batch: 1, capacity: 32 });
    const ids = Array.from({ length: 20 }, (_, i) => (i * 13 + 5) % SMALL_LLAMA.vocabSize);
    return await prefill(runner, ids, [7, 8, 1]);
  }

  it('pads a latent that is no multiple of 8 without changing a score, in slots full of NaN', async () => {
    const padded = await logits(12); // 12 + 8 = 20, stored as 24
    const whole = await logits(16); // 16 + 8 = 24
    expect(padded.every(Number.isFinite)).toBe(true);
    expect(largestDifference(padded, whole)).toBeLessThan(2e-5);
  });
});
