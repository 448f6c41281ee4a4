import { Runtime } from '@causeway/ort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONVERTIBLE_TYPES, type ConvertibleType } from './convert/convert-job.ts';
import { linear, linears } from './linear.ts';
import { type LoneRows, loneRowsAlike } from './lone-rows.ts';
import { SegmentBuilder } from './segment-builder.ts';
import { runGraph } from './testing/graph-runner.ts';
import { memoryCheckpoint, seededNumbers, SMALL_LLAMA, storedF32, type StoredTensor } from './testing/memory-checkpoint.ts';
import { storedAs, widened } from './testing/quantized-blocks.ts';
import type { Precision } from './types.ts';
import { WeightLibrary } from './weight-library.ts';
import { type WideProducts, wideProducts } from './wide-products.ts';

const OUT = 40;
/** Whole blocks of every type: three of the largest. */
const IN = 768;

/** x W^T + b in f64. */
function reference(tensor: StoredTensor, bias: Float32Array, x: Float32Array): Float64Array {
  const w = new Float32Array(widened(tensor).bytes.buffer);
  return Float64Array.from({ length: (x.length / IN) * OUT }, (_, i) => {
    const row = Math.floor(i / OUT) * IN;
    const column = (i % OUT) * IN;
    let sum = bias[i % OUT] ?? 0;
    for (let k = 0; k < IN; k++) sum += (x[row + k] ?? 0) * (w[column + k] ?? 0);
    return sum;
  });
}

let runtime: Runtime;
let loneRows: LoneRows;
let wide: WideProducts;
beforeAll(async () => {
  runtime = Runtime.create({ threads: 2 });
  loneRows = (await loneRowsAlike(runtime)) ? 'alike' : 'differ';
  wide = await wideProducts(runtime);
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

describe.each(CONVERTIBLE_TYPES)('linear over %s', (type) => {
  it.each<[Precision, WideProducts]>([
    ['exact', 'parts'],
    ['exact', 'f32'],
    ['fast', 'f32'],
  ])('%s, wide products %s: is close to f64 and gives a row the same bits in every batch', async (precision, form) => {
    const tensor = storedAs(type, [OUT, IN], 11);
    const bias = seededNumbers(5, OUT);
    const tensors = new Map([
      ['p.weight', tensor],
      ['p.bias', storedF32([OUT], bias)],
    ]);
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors);
    using library = new WeightLibrary(checkpoint);
    const segment = new SegmentBuilder('linear', library, precision, {
      loneRows,
      wideProducts: form === 'parts' ? wide : 'f32',
    });
    const x = segment.read({ name: 'x', type: 'f32', shape: ['N', IN] });
    segment.write({ name: 'y', type: 'f32', shape: ['N', OUT] }, linear(segment, x, 'p', OUT, IN));
    await library.convert();
    await using graph = await runGraph(runtime, segment.finish({ kind: 'decoder', layers: [] }), library);

    const rows = 270;
    const values = seededNumbers(3, rows * IN);
    const all = (await graph.run({ x: values }, { N: rows })).get('y') ?? new Float32Array();
    const wanted = reference(tensor, bias, values);
    const size = Math.max(...wanted.map(Math.abs));
    const worst = Math.max(...wanted.map((value, i) => Math.abs(value - Number(all[i]))));
    const rounded = precision === 'fast' && type.startsWith('Q');
    expect(worst / size).toBeLessThan(rounded ? 0.015 : 2e-6);
    for (const count of [1, 2, 3, 5, 8, 16, 33, 64, 128, 129, 257]) {
      for (const first of [0, 3]) {
        const part = await graph.run({ x: values.slice(first * IN, (first + count) * IN) }, { N: count });
        expect(part.get('y'), `${count} rows`).toEqual(all.slice(first * OUT, (first + count) * OUT));
      }
    }
    expect((await graph.run({ x: new Float32Array() }, { N: 0 })).get('y')).toHaveLength(0);
  });
});

describe('linears', () => {
  const mixed = ['Q4_K', 'Q6_K', 'Q4_K'] as const;
  it.each<[Precision, readonly ConvertibleType[]]>([
    ['exact', ['Q4_1', 'Q4_1', 'Q4_1']],
    ['fast', ['Q4_1', 'Q4_1', 'Q4_1']],
    ['exact', mixed],
    ['fast', mixed],
  ])('%s: multiplies weights laid together (%s) with the bits of each alone', async (precision, types) => {
    const names = ['a', 'b', 'c'];
    const tensors = new Map(types.map((type, i) => [`${names[i]}.weight`, storedAs(type, [OUT, IN], 20 + i)]));
    tensors.set('b.bias', storedF32([OUT], seededNumbers(8, OUT)));
    using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors);
    using library = new WeightLibrary(checkpoint);
    const segment = new SegmentBuilder('linears', library, precision, { loneRows, wideProducts: wide });
    const x = segment.read({ name: 'x', type: 'f32', shape: ['N', IN] });
    const parts = names.map((name) => ({ name, outputs: OUT }));
    linears(segment, x, parts, IN).forEach((y, i) => segment.write({ name: `together.${i}`, type: 'f32', shape: ['N', OUT] }, y));
    names.forEach((name, i) =>
      segment.write({ name: `alone.${i}`, type: 'f32', shape: ['N', OUT] }, linear(segment, x, name, OUT, IN)),
    );
    await library.convert();
    await using graph = await runGraph(runtime, segment.finish({ kind: 'decoder', layers: [] }), library);
    for (const rows of [1, 2, 19]) {
      const found = await graph.run({ x: seededNumbers(rows, rows * IN) }, { N: rows });
      names.forEach((_, i) => expect(found.get(`together.${i}`)).toEqual(found.get(`alone.${i}`)));
    }
  });
});
