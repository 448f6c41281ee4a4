import { Runtime } from '@causeway/ort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONVERTIBLE_TYPES } from './convert/convert-job.ts';
import { embed } from './embedding.ts';
import { SegmentBuilder } from './segment-builder.ts';
import { runGraph } from './testing/graph-runner.ts';
import { memoryCheckpoint, SMALL_LLAMA } from './testing/memory-checkpoint.ts';
import { storedAs, widened } from './testing/quantized-blocks.ts';
import type { Precision } from './types.ts';
import { WeightLibrary } from './weight-library.ts';

const VOCABULARY = 50;
const HIDDEN = 512;

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 2 });
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

describe.each(CONVERTIBLE_TYPES)('token embeddings stored as %s', (type) => {
  it.each<Precision>(['exact', 'fast'])('%s: are the stored numbers, to the bit', async (precision) => {
    const stored = storedAs(type, [VOCABULARY, HIDDEN], 5);
    const table = new Float32Array(widened(stored).bytes.buffer);
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, new Map([['model.embed_tokens.weight', stored]]));
    using library = new WeightLibrary(checkpoint);
    const segment = new SegmentBuilder('embedding', library, precision);
    const { delta } = embed(segment, { vocabSize: VOCABULARY, hidden: HIDDEN });
    segment.write({ name: 'y', type: 'f32', shape: ['N', HIDDEN] }, delta);
    await library.convert();
    await using graph = await runGraph(runtime, segment.finish({ kind: 'decoder', layers: [] }), library);
    const ids = [0, 49, 7, 7, 23];
    const found = await graph.run({ token_ids: BigInt64Array.from(ids, BigInt) }, { B: 1, T: ids.length, N: ids.length });
    const wanted = ids.flatMap((id) => [...table.subarray(id * HIDDEN, (id + 1) * HIDDEN)]);
    // Not Object.is: of the two zeros a block has one.
    expect([...(found.get('y') ?? [])].map((value, i) => value === wanted[i])).toEqual(wanted.map(() => true));
  });
});
