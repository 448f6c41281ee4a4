/**
 * Routed experts in primitive operators: each expert takes the rows that chose it (none is allowed) and adds its weighted
 * answer to them. Every product has a packed weight and every row's sum runs over experts in ascending order, so a token's
 * bits do not depend on the batch; no promise of that kind comes with com.microsoft MoE. Measured on 16 experts, 4 chosen: for
 * one row 0.12 ms against 0.07 ms for all experts at once, for 512 rows 1.7 against 3.4 ms.
 */
import { string, type Value } from '@causeway/onnx-graph';
import { weightProduct } from './linear.ts';
import type { SegmentBuilder } from './segment-builder.ts';
import { swiglu } from './swiglu.ts';

export interface RoutedExperts {
  /** Prefix of `<expert>.{gate,up,down}_proj.weight`. */
  name: string;
  hidden: number;
  inner: number;
  experts: number;
}

export interface RoutedRows {
  /** f32 [N, hidden]. */
  rows: Value;
  /** i64 [N, k], all different in a row. */
  ids: Value;
  /** f32 [N, k]. */
  weights: Value;
}

/** One expert's answer to rows x [M, hidden]: down(silu(gate x) * up x), with the same bits in process and in a shard. */
export function expertAnswer(segment: SegmentBuilder, x: Value, name: string, o: { hidden: number; inner: number }): Value {
  const gate = weightProduct(segment, x, `${name}.gate_proj.weight`, [o.inner, o.hidden]);
  const up = weightProduct(segment, x, `${name}.up_proj.weight`, [o.inner, o.hidden]);
  return weightProduct(segment, swiglu(segment, gate, up), `${name}.down_proj.weight`, [o.hidden, o.inner]);
}

/** Sum over each row's chosen experts of weight * down(silu(gate x) * up x): [N, hidden]. */
export function routedExperts(segment: SegmentBuilder, routed: RoutedRows, o: RoutedExperts): Value {
  const { graph } = segment;
  let sum = graph.op('Mul', [routed.rows, graph.scalar(0)]);
  for (let expert = 0; expert < o.experts; expert++) {
    const name = `${o.name}.${expert}`;
    const chose = graph.op('Equal', [routed.ids, graph.int64s(expert)]);
    const places = graph.op('Transpose', [graph.op('NonZero', [chose])]); // [M, 2]: row, slot
    const rows = graph.op('Slice', [places, graph.int64s(0), graph.int64s(1), graph.int64s(1)]); // [M, 1]
    const x = graph.op('GatherND', [routed.rows, rows]);
    const y = expertAnswer(segment, x, name, o);
    const weight = graph.op('Unsqueeze', [graph.op('GatherND', [routed.weights, places]), graph.int64s(1)]);
    sum = graph.op('ScatterND', [sum, rows, graph.op('Mul', [y, weight])], { reduction: string('add') });
  }
  return sum;
}
