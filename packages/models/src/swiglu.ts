import { float, type Value } from '@causeway/onnx-graph';
import { linear, linears } from './linear.ts';
import type { SegmentBuilder } from './segment-builder.ts';

/** silu(gate) * up, elementwise; silu(x) = x * sigmoid(x), which is QuickGelu with alpha 1. */
export function swiglu(segment: SegmentBuilder, gate: Value, up: Value): Value {
  return segment.graph.op('Mul', [segment.graph.contrib('QuickGelu', [gate], { alpha: float(1) }), up]);
}

/** down(silu(gate x) * up x): [N, hidden] to [N, hidden], weights `<name>.{gate,up,down}_proj`. */
export function swigluMlp(segment: SegmentBuilder, x: Value, name: string, hidden: number, inner: number): Value {
  const parts = ['gate_proj', 'up_proj'].map((part) => ({ name: `${name}.${part}`, outputs: inner }));
  const [gate = '', up = ''] = linears(segment, x, parts, hidden);
  return linear(segment, swiglu(segment, gate, up), `${name}.down_proj`, hidden, inner);
}
