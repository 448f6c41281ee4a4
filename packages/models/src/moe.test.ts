import { Runtime } from '@causeway/ort';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { routedExperts } from './moe-experts.ts';
import { groupedSigmoidRouter, softmaxRouter } from './moe-router.ts';
import { SegmentBuilder } from './segment-builder.ts';
import { type GraphRunner, runGraph } from './testing/graph-runner.ts';
import { memoryCheckpoint, seededNumbers, SMALL_LLAMA, storedF32, type StoredTensor } from './testing/memory-checkpoint.ts';
import { WeightLibrary } from './weight-library.ts';

const HIDDEN = 32;
const INNER = 24;
const EXPERTS = 12;
const CHOSEN = 3;

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 2 });
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

/** Builds a graph over weights in memory, gives its runner to `use`, and frees everything. */
async function withGraph(
  tensors: Map<string, StoredTensor>,
  build: (segment: SegmentBuilder) => void,
  use: (graph: GraphRunner) => Promise<void>,
): Promise<void> {
  using checkpoint = memoryCheckpoint(SMALL_LLAMA, tensors);
  using library = new WeightLibrary(checkpoint);
  const segment = new SegmentBuilder('moe', library, 'exact');
  build(segment);
  await library.convert();
  await using graph = await runGraph(runtime, segment.finish({ kind: 'experts', layer: 0 }), library);
  await use(graph);
}

const matrix = (values: Float32Array, row: number, width: number): Float32Array =>
  values.subarray(row * width, (row + 1) * width);
const dot = (a: Float32Array | Float64Array, b: Float32Array): number =>
  b.reduce((sum, value, i) => sum + value * (a[i] ?? 0), 0);
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

describe('groupedSigmoidRouter', () => {
  const weight = seededNumbers(1, EXPERTS * HIDDEN, 0.5);
  const bias = seededNumbers(2, EXPERTS, 0.4);
  const tensors = new Map([
    ['gate.weight', storedF32([EXPERTS, HIDDEN], weight)],
    ['gate.e_score_correction_bias', storedF32([EXPERTS], bias)],
  ]);

  /** The definition, in f64. */
  function route(
    x: Float32Array,
    groups: number,
    groupsPerToken: number,
    normalize: boolean,
    scale: number,
  ): Map<number, number> {
    const scores = Array.from({ length: EXPERTS }, (_, e) => sigmoid(dot(x, matrix(weight, e, HIDDEN))));
    const biased = scores.map((score, e) => score + (bias[e] ?? 0));
    const perGroup = EXPERTS / groups;
    const groupScore = (g: number): number =>
      biased
        .slice(g * perGroup, (g + 1) * perGroup)
        .sort((a, b) => b - a)
        .slice(0, 2)
        .reduce((a, b) => a + b, 0);
    const best = Array.from({ length: groups }, (_, g) => g).sort((a, b) => groupScore(b) - groupScore(a));
    const allowed = new Set(best.slice(0, groupsPerToken));
    const chosen = Array.from({ length: EXPERTS }, (_, e) => e)
      .filter((e) => groups === 1 || allowed.has(Math.floor(e / perGroup)))
      .sort((a, b) => (biased[b] ?? 0) - (biased[a] ?? 0))
      .slice(0, CHOSEN);
    const sum = normalize ? chosen.reduce((total, e) => total + (scores[e] ?? 0), 0) : 1;
    return new Map(chosen.map((e) => [e, ((scores[e] ?? 0) / sum) * scale]));
  }

  it.each([
    { groups: 4, groupsPerToken: 2, normalize: true, scale: 2.5 },
    { groups: 3, groupsPerToken: 1, normalize: false, scale: 1 },
    { groups: 1, groupsPerToken: 1, normalize: true, scale: 1.5 },
  ])('chooses and weighs experts as DeepSeek-V3 defines: %o', async (o) => {
    const build = (segment: SegmentBuilder): void => {
      const x = segment.read({ name: 'x', type: 'f32', shape: ['N', HIDDEN] });
      const routed = groupedSigmoidRouter(segment, x, {
        name: 'gate',
        hidden: HIDDEN,
        experts: EXPERTS,
        expertsPerToken: CHOSEN,
        ...o,
      });
      segment.write({ name: 'ids', type: 'i64', shape: ['N', CHOSEN] }, routed.ids);
      segment.write({ name: 'weights', type: 'f32', shape: ['N', CHOSEN] }, routed.weights);
    };
    await withGraph(tensors, build, async (graph) => {
      const rows = 50;
      const x = seededNumbers(9, rows * HIDDEN);
      const found = await graph.run({ x }, { N: rows });
      for (let row = 0; row < rows; row++) {
        const wanted = route(matrix(x, row, HIDDEN), o.groups, o.groupsPerToken, o.normalize, o.scale);
        const ids = Array.from({ length: CHOSEN }, (_, i) => Number(found.get('ids')?.[row * CHOSEN + i]));
        expect(new Set(ids)).toEqual(new Set(wanted.keys()));
        ids.forEach((id, i) =>
          expect(Number(found.get('weights')?.[row * CHOSEN + i])).toBeCloseTo(wanted.get(id) ?? Number.NaN, 5),
        );
      }
    });
  });
});

describe('softmaxRouter', () => {
  const weight = seededNumbers(4, EXPERTS * HIDDEN, 0.5);
  const tensors = new Map([['gate.weight', storedF32([EXPERTS, HIDDEN], weight)]]);

  it.each([
    { normalize: true, scale: 1 },
    { normalize: false, scale: 1 },
    { normalize: true, scale: 1.5 },
  ])('chooses the best by softmax, weighs them by it, and a row as in every batch: %o', async (o) => {
    const build = (segment: SegmentBuilder): void => {
      const x = segment.read({ name: 'x', type: 'f32', shape: ['N', HIDDEN] });
      const sizes = { hidden: HIDDEN, experts: EXPERTS, expertsPerToken: CHOSEN };
      const routed = softmaxRouter(segment, x, { name: 'gate', ...sizes, ...o });
      segment.write({ name: 'ids', type: 'i64', shape: ['N', CHOSEN] }, routed.ids);
      segment.write({ name: 'weights', type: 'f32', shape: ['N', CHOSEN] }, routed.weights);
    };
    await withGraph(tensors, build, async (graph) => {
      const rows = 50;
      const x = seededNumbers(8, rows * HIDDEN);
      const found = await graph.run({ x }, { N: rows });
      for (let row = 0; row < rows; row++) {
        const powers = Array.from({ length: EXPERTS }, (_, e) =>
          Math.exp(dot(matrix(x, row, HIDDEN), matrix(weight, e, HIDDEN))),
        );
        const chosen = [...powers.keys()].sort((a, b) => (powers[b] ?? 0) - (powers[a] ?? 0)).slice(0, CHOSEN);
        const among = o.normalize ? chosen.map((e) => powers[e] ?? 0) : powers;
        const sum = among.reduce((a, b) => a + b, 0);
        const [ids, weights] = [found.get('ids') ?? [], found.get('weights') ?? []];
        chosen.forEach((e, i) => {
          expect(Number(ids[row * CHOSEN + i])).toBe(e);
          expect(Number(weights[row * CHOSEN + i])).toBeCloseTo(((powers[e] ?? 0) / sum) * o.scale, 5);
        });
        const alone = await graph.run({ x: matrix(x, row, HIDDEN) }, { N: 1 });
        expect(alone.get('weights')).toEqual(weights.slice(row * CHOSEN, (row + 1) * CHOSEN));
      }
    });
  });
});

describe('routedExperts', () => {
  const tensors = new Map<string, StoredTensor>();
  const values = new Map<string, Float32Array>();
  for (let e = 0; e < EXPERTS; e++) {
    for (const [i, part] of ['gate_proj', 'up_proj', 'down_proj'].entries()) {
      const shape = part === 'down_proj' ? [HIDDEN, INNER] : [INNER, HIDDEN];
      const numbers = seededNumbers(100 + 3 * e + i, HIDDEN * INNER, 0.4);
      values.set(`${e}.${part}`, numbers);
      tensors.set(`experts.${e}.${part}.weight`, storedF32(shape, numbers));
    }
  }

  /** weight * down(silu(gate x) * up x) summed over a row's experts, in f64. */
  function mix(x: Float32Array, ids: readonly number[], weights: Float32Array): Float64Array {
    const sum = new Float64Array(HIDDEN);
    ids.forEach((e, i) => {
      const inner = Float64Array.from({ length: INNER }, (_, j) => {
        const gate = dot(x, matrix(values.get(`${e}.gate_proj`) ?? x, j, HIDDEN));
        return gate * sigmoid(gate) * dot(x, matrix(values.get(`${e}.up_proj`) ?? x, j, HIDDEN));
      });
      for (let h = 0; h < HIDDEN; h++)
        sum[h] = (sum[h] ?? 0) + (weights[i] ?? 0) * dot(inner, matrix(values.get(`${e}.down_proj`) ?? x, h, INNER));
    });
    return sum;
  }

  it('equals the definition, for any choice of experts, with the same bits in every batch', async () => {
    const build = (segment: SegmentBuilder): void => {
      const rows = segment.read({ name: 'rows', type: 'f32', shape: ['N', HIDDEN] });
      const ids = segment.read({ name: 'ids', type: 'i64', shape: ['N', CHOSEN] });
      const weights = segment.read({ name: 'weights', type: 'f32', shape: ['N', CHOSEN] });
      const o = { name: 'experts', hidden: HIDDEN, inner: INNER, experts: EXPERTS };
      segment.write({ name: 'y', type: 'f32', shape: ['N', HIDDEN] }, routedExperts(segment, { rows, ids, weights }, o));
    };
    const choice = fc.uniqueArray(fc.integer({ min: 0, max: EXPERTS - 1 }), { minLength: CHOSEN, maxLength: CHOSEN });
    await withGraph(tensors, build, async (graph) => {
      await fc.assert(
        fc.asyncProperty(fc.array(choice, { minLength: 1, maxLength: 40 }), fc.integer(), async (choices, seed) => {
          const n = choices.length;
          const x = seededNumbers(seed, n * HIDDEN);
          const weights = seededNumbers(seed + 1, n * CHOSEN).map(Math.abs);
          const ids = BigInt64Array.from(choices.flat().map(BigInt));
          const y = (await graph.run({ rows: x, ids, weights }, { N: n })).get('y') as Float32Array;
          const alone = await graph.run(
            { rows: x.slice(0, HIDDEN), ids: ids.slice(0, CHOSEN), weights: weights.slice(0, CHOSEN) },
            { N: 1 },
          );
          expect(alone.get('y')).toEqual(y.slice(0, HIDDEN));
          choices.forEach((chosen, row) => {
            const wanted = mix(matrix(x, row, HIDDEN), chosen, matrix(weights, row, CHOSEN));
            wanted.forEach((value, h) => expect(Math.abs(value - (y[row * HIDDEN + h] ?? Number.NaN))).toBeLessThan(1e-5));
          });
        }),
        { numRuns: 25 },
      );
    });
  });
});
