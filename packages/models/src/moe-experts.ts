/**
 * Routed experts in primitive operators. com.microsoft MoE was not taken: its products depend on how many rows an expert
 * gets and its sums on threads, so a token's bits would depend on the batch. Here every product has a packed weight and every
 * row's sum runs over experts in ascending order.
 */
import { int, string, type Value } from '@causeway/onnx-graph';
import { matMulTransposed, weightProduct } from './linear.ts';
import type { SegmentBuilder } from './segment-builder.ts';
import { swiglu } from './swiglu.ts';

export interface RoutedExperts {
  /** Prefix of `<expert>.{gate,up,down}_proj.weight`. */
  name: string;
  hidden: number;
  inner: number;
  experts: number;
  expertsPerToken: number;
}

export interface RoutedRows {
  /** f32 [N, hidden]. */
  rows: Value;
  /** i64 [N, k], all different in a row. */
  ids: Value;
  /** f32 [N, k]. */
  weights: Value;
}

/** Up to this many times the needed arithmetic, three large products beat many small ones. */
const DENSE_RATIO = 4;

/** Whether all experts are computed for all rows (the unchosen with weight 0) rather than each for its own rows. */
export function computesDensely(o: Pick<RoutedExperts, 'experts' | 'expertsPerToken'>): boolean {
  return o.experts <= DENSE_RATIO * o.expertsPerToken;
}

/** Weight of every expert for every row, 0 where unchosen: [N, experts]. */
function gateMatrix(segment: SegmentBuilder, routed: RoutedRows, experts: number): Value {
  const { graph } = segment;
  const all = graph.constant(
    'experts',
    'i64',
    [1, 1, experts],
    BigInt64Array.from({ length: experts }, (_, i) => BigInt(i)),
  );
  const hits = graph.op('Equal', [graph.op('Unsqueeze', [routed.ids, graph.int64s(2)]), all]);
  const weights = graph.op('Unsqueeze', [routed.weights, graph.int64s(2)]);
  const spread = graph.op('Where', [hits, weights, graph.scalar(0)]);
  return graph.op('ReduceSum', [spread, graph.int64s(1)], { keepdims: int(0) });
}

/** All experts as one wide MLP whose inner channels are weighted by their expert's gate. */
function denseExperts(segment: SegmentBuilder, routed: RoutedRows, o: RoutedExperts): Value {
  const { graph, library } = segment;
  const names = (part: string): string[] => Array.from({ length: o.experts }, (_, e) => `${o.name}.${e}.${part}.weight`);
  const stack = (part: string) => library.stacked(`${o.name}.${part}`, names(part), [o.inner, o.hidden], 'rows');
  const gate = matMulTransposed(segment, routed.rows, stack('gate_proj'));
  const up = matMulTransposed(segment, routed.rows, stack('up_proj'));
  const inner = graph.op('Reshape', [swiglu(segment, gate, up), graph.int64s(-1, o.experts, o.inner)]);
  const gates = graph.op('Unsqueeze', [gateMatrix(segment, routed, o.experts), graph.int64s(2)]);
  const weighted = graph.op('Reshape', [graph.op('Mul', [inner, gates]), graph.int64s(-1, o.experts * o.inner)]);
  const down = library.stacked(`${o.name}.down_proj`, names('down_proj'), [o.hidden, o.inner], 'columns');
  return matMulTransposed(segment, weighted, down);
}

/** Each expert over the rows that chose it, scattered back and summed in expert order. */
function sparseExperts(segment: SegmentBuilder, routed: RoutedRows, o: RoutedExperts): Value {
  const { graph } = segment;
  let sum = graph.op('Mul', [routed.rows, graph.scalar(0)]);
  for (let expert = 0; expert < o.experts; expert++) {
    const name = `${o.name}.${expert}`;
    const chose = graph.op('Equal', [routed.ids, graph.int64s(expert)]);
    const places = graph.op('Transpose', [graph.op('NonZero', [chose])]); // [M, 2]: row, slot
    const rows = graph.op('Slice', [places, graph.int64s(0), graph.int64s(1), graph.int64s(1)]); // [M, 1]
    const x = graph.op('GatherND', [routed.rows, rows]);
    const gate = weightProduct(segment, x, `${name}.gate_proj.weight`, [o.inner, o.hidden]);
    const up = weightProduct(segment, x, `${name}.up_proj.weight`, [o.inner, o.hidden]);
    const y = weightProduct(segment, swiglu(segment, gate, up), `${name}.down_proj.weight`, [o.hidden, o.inner]);
    const weight = graph.op('Unsqueeze', [graph.op('GatherND', [routed.weights, places]), graph.int64s(1)]);
    sum = graph.op('ScatterND', [sum, rows, graph.op('Mul', [y, weight])], { reduction: string('add') });
  }
  return sum;
}

/** Sum over each row's chosen experts of weight * down(silu(gate x) * up x): [N, hidden]. */
export function routedExperts(segment: SegmentBuilder, routed: RoutedRows, o: RoutedExperts): Value {
  return computesDensely(o) ? denseExperts(segment, routed, o) : sparseExperts(segment, routed, o);
}
