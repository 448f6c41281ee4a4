import { Runtime } from '@causeway/ort';
import type { Checkpoint } from '@causeway/model-files';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../load-model.ts';
import { asGguf } from '../testing/gguf-checkpoint.ts';
import { largestDifference } from '../testing/logits.ts';
import { memoryCheckpoint, SMALL_LLAMA, smallLlamaTensors, storedF32 } from '../testing/memory-checkpoint.ts';
import { SegmentRunner } from '../testing/segment-runner.ts';

describe('llama', () => {
  let runtime: Runtime;
  beforeAll(() => {
    runtime = Runtime.create({ threads: 2 });
  });
  afterAll(async () => {
    await runtime[Symbol.asyncDispose]();
  });

  async function logits(checkpoint: Checkpoint): Promise<Float32Array> {
    const model = await loadModel({ checkpoint, precision: 'exact' });
    expect(model.architecture).toBe('llama');
    await using runner = await SegmentRunner.create(runtime, model, { batch: 1, capacity: 16 });
    return await runner.run({ ids: [[1, 2, 3, 4, 5, 6, 7]], past: [0] });
  }

  it('is the same model in a GGUF file, whose rows of Q and K are permuted', async () => {
    const tensors = smallLlamaTensors(SMALL_LLAMA);
    const bias = Float32Array.from({ length: 64 }, (_, i) => i / 10);
    tensors.set('model.layers.1.self_attn.q_proj.bias', storedF32([64], bias));
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors);
    using gguf = asGguf(checkpoint, 'llama', true);
    using unpermuted = asGguf(checkpoint, 'llama', false);
    const wanted = await logits(checkpoint);
    expect(largestDifference(await logits(gguf), wanted)).toBeLessThan(1e-5);
    expect(largestDifference(await logits(unpermuted), wanted)).toBeGreaterThan(1e-3);
  });
});
