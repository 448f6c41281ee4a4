import { float, int, OMITTED, type Value } from '@causeway/onnx-graph';
import type { SegmentBuilder } from './segment-builder.ts';

/** x / sqrt(mean(x^2) + epsilon) * weight over the last axis of [N, width]. */
export function rmsNorm(segment: SegmentBuilder, x: Value, name: string, width: number, epsilon: number): Value {
  const weight = segment.weight(segment.library.f32(`${name}.weight`, [width]));
  return segment.graph.op('SimplifiedLayerNormalization', [x, weight], { epsilon: float(epsilon), axis: int(-1) });
}

/** The hidden state between two blocks: `residual + delta`, not yet added (`residual` undefined right after the embedding). */
export interface Residual {
  residual: Value | undefined;
  delta: Value;
}

/** Adds the two halves of the hidden state and normalises the sum: both are returned, [N, width]. */
export function residualNorm(
  segment: SegmentBuilder,
  state: Residual,
  name: string,
  width: number,
  epsilon: number,
): { normed: Value; residual: Value } {
  if (state.residual === undefined) return { normed: rmsNorm(segment, state.delta, name, width, epsilon), residual: state.delta };
  const weight = segment.weight(segment.library.f32(`${name}.weight`, [width]));
  const [normed, , , residual] = segment.graph.node('SkipSimplifiedLayerNormalization', [state.delta, state.residual, weight], {
    domain: 'com.microsoft',
    attributes: { epsilon: float(epsilon) },
    outputs: [`${name}.normed`, OMITTED, OMITTED, `${name}.residual`],
  });
  return { normed: normed ?? OMITTED, residual: residual ?? OMITTED };
}
