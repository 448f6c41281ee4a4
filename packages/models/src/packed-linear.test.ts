/** Products with packed INT4 weights. Codes are packed here, number by number, as compressed-tensors describes it. */
import { withPackedWeights } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { linears, weightProduct } from './linear.ts';
import { SegmentBuilder } from './segment-builder.ts';
import { runGraph } from './testing/graph-runner.ts';
import { memoryCheckpoint, seededNumbers, SMALL_LLAMA, type StoredTensor } from './testing/memory-checkpoint.ts';
import type { Precision } from './types.ts';
import { WeightLibrary } from './weight-library.ts';

const OUT = 40;
const IN = 96;
const GROUP = 32;

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 2 });
});
afterAll(() => runtime[Symbol.asyncDispose]());

interface Packed {
  tensors: Map<string, StoredTensor>;
  /** f32 [OUT, IN]: (code - 8) * scale of each weight. */
  values: Float32Array;
}

/** A random weight under `name`, and its numbers. Every code is there. */
function packed(name: string, seed: number): Packed {
  const codes = Uint8Array.from(seededNumbers(seed, OUT * IN, 8), (number, i) => (i < 16 ? i : Math.floor(number + 8)));
  // bf16 keeps the upper half of an f32.
  const scales = Uint16Array.from(
    new Uint32Array(seededNumbers(seed + 1, (OUT * IN) / GROUP, 0.1).buffer),
    (bits) => bits >>> 16,
  );
  const scaleOf = (i: number): number =>
    new Float32Array(Uint32Array.of((scales[Math.floor(i / GROUP)] ?? 0) << 16).buffer)[0] ?? 0;
  const words = new DataView(new ArrayBuffer((OUT * IN) / 2));
  for (let word = 0; word < (OUT * IN) / 8; word++) {
    let value = 0n;
    for (let i = 0; i < 8; i++) value += BigInt(codes[word * 8 + i] ?? 0) * 16n ** BigInt(i);
    words.setUint32(word * 4, Number(value), true);
  }
  return {
    tensors: new Map([
      [`${name}_packed`, { type: 'I32', shape: [OUT, IN / 8], bytes: new Uint8Array(words.buffer) }],
      [`${name}_scale`, { type: 'BF16', shape: [OUT, IN / GROUP], bytes: new Uint8Array(scales.buffer) }],
      [`${name}_shape`, { type: 'I64', shape: [2], bytes: new Uint8Array(BigInt64Array.of(BigInt(OUT), BigInt(IN)).buffer) }],
    ]),
    values: Float32Array.from(codes, (code, i) => (code - 8) * scaleOf(i)),
  };
}

it.each([0, 1])('a product with each unit vector gives the weights bit by bit, %i bytes off alignment', async (misalign) => {
  const { tensors, values } = packed('p.weight', 3);
  using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors, { misalign });
  using library = new WeightLibrary(withPackedWeights(checkpoint));
  const segment = new SegmentBuilder('packed', library, 'exact');
  const x = segment.read({ name: 'x', type: 'f32', shape: ['N', IN] });
  segment.write({ name: 'y', type: 'f32', shape: ['N', OUT] }, weightProduct(segment, x, 'p.weight', [OUT, IN]));
  await library.convert();
  await using graph = await runGraph(runtime, segment.finish({ kind: 'decoder', layers: [] }), library);
  const units = Float32Array.from({ length: IN * IN }, (_, i) => (Math.floor(i / IN) === i % IN ? 1 : 0));
  const found = (await graph.run({ x: units }, { N: IN })).get('y') ?? new Float32Array();
  const wanted = Float32Array.from({ length: IN * OUT }, (_, i) => values[(i % OUT) * IN + Math.floor(i / OUT)] ?? Number.NaN);
  // A zero has no sign here.
  expect(Array.from(found as Float32Array, (value) => value + 0)).toEqual(Array.from(wanted, (value) => value + 0));
});

it.each<Precision>(['exact', 'fast'])(
  '%s: linears beside other types are near f64, a row with the same bits in every batch',
  async (precision) => {
    const { tensors, values } = packed('a.weight', 5);
    const other = packed('b.weight', 7);
    for (const [name, tensor] of other.tensors) tensors.set(name, tensor);
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors);
    using library = new WeightLibrary(withPackedWeights(checkpoint));
    const segment = new SegmentBuilder('packed', library, precision);
    const x = segment.read({ name: 'x', type: 'f32', shape: ['N', IN] });
    const parts = ['a', 'b'].map((name) => ({ name, outputs: OUT }));
    linears(segment, x, parts, IN).forEach((y, i) => segment.write({ name: `y.${i}`, type: 'f32', shape: ['N', OUT] }, y));
    await library.convert();
    await using graph = await runGraph(runtime, segment.finish({ kind: 'decoder', layers: [] }), library);
    const rows = 33;
    const input = seededNumbers(9, rows * IN);
    const all = await graph.run({ x: input }, { N: rows });
    for (const [i, weights] of [values, other.values].entries()) {
      const y = all.get(`y.${i}`) ?? new Float32Array();
      const wanted = Float64Array.from({ length: rows * OUT }, (_, at) => {
        let sum = 0;
        for (let k = 0; k < IN; k++) sum += (input[Math.floor(at / OUT) * IN + k] ?? 0) * (weights[(at % OUT) * IN + k] ?? 0);
        return sum;
      });
      const size = Math.max(...wanted.map(Math.abs));
      const worst = Math.max(...wanted.map((value, at) => Math.abs(value - Number(y[at]))));
      expect(worst / size).toBeLessThan(precision === 'fast' ? 0.015 : 2e-6);
      const alone = await graph.run({ x: input.slice(IN, 2 * IN) }, { N: 1 });
      expect(alone.get(`y.${i}`)).toEqual(y.slice(OUT, 2 * OUT));
    }
  },
);

it('a weight of another shape than the config wants is refused, naming both', () => {
  using checkpoint = memoryCheckpoint(SMALL_LLAMA, packed('p.weight', 3).tensors);
  using library = new WeightLibrary(withPackedWeights(checkpoint));
  expect(() => library.packed({ name: 'p.weight', outputs: OUT + 1 }, IN)).toThrow(
    /p.weight is \[40, 96\]; its config wants \[41, 96\]/,
  );
});
