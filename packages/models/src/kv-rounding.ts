/**
 * Rounding of new keys and values inside the graph, after rotation and before attention, to what a chip's pages can hold: every score is
 * then computed from numbers that the pages hold, also where they are computed in f32. The same arithmetic as packages/kv
 * (number-format.ts), so that packing into pages afterwards changes nothing.
 */
import { hasFactors, type KvWireForm, LARGEST_CODE, LEAST_MAGNITUDE } from '@causeway/kv';
import { int, type Value } from '@causeway/onnx-graph';
import type { SegmentBuilder } from './segment-builder.ts';

/** ONNX TensorProto.DataType. */
const FLOAT = 1;
const INT8 = 3;
const CAST_TYPE = { f16: 10, bf16: 16, f8e4m3: 17 } as const;

/** Rounds x [N, heads * width], each head by itself where the type has factors. Values already rounded stay. */
export function roundHeads(segment: SegmentBuilder, x: Value, width: number, form: KvWireForm): Value {
  const { graph } = segment;
  const { dtype } = form;
  if (dtype === 'f32') return x;
  if (hasFactors(dtype)) return roundToCodes(segment, x, width, LARGEST_CODE[dtype]);
  const through = (value: Value): Value =>
    graph.op('Cast', [graph.op('Cast', [value], { to: int(CAST_TYPE[dtype]) })], { to: int(FLOAT) });
  if (dtype !== 'f8e4m3' || (form.scale ?? 1) === 1) return through(x);
  const scale = graph.scalar(form.scale ?? 1);
  return graph.op('Mul', [through(graph.op('Div', [x, scale])), scale]);
}

/** Rounds a latent [N, rank] and its rotary part [N, ropeDim], as one head or apart, and joins them: [N, rank + ropeDim]. */
export function roundLatent(
  segment: SegmentBuilder,
  parts: { latent: Value; rank: number; rope: Value; ropeDim: number },
  form: KvWireForm,
): Value {
  const { graph } = segment;
  const join = (latent: Value, rope: Value): Value => graph.op('Concat', [latent, rope], { axis: int(1) });
  const { latent, rank, rope, ropeDim } = parts;
  if (form.latent !== 'split') return roundHeads(segment, join(latent, rope), rank + ropeDim, form);
  const ropeForm: KvWireForm = hasFactors(form.dtype) ? { dtype: 'bf16' } : form;
  return join(roundHeads(segment, latent, rank, form), roundHeads(segment, rope, ropeDim, ropeForm));
}

/** Symmetric codes: factor = bf16(largest magnitude of a head / largest code). */
function roundToCodes(segment: SegmentBuilder, x: Value, width: number, largest: number): Value {
  const { graph } = segment;
  const heads = graph.op('Reshape', [x, graph.int64s(-1, width)]);
  const magnitude = graph.op('ReduceMax', [graph.op('Abs', [heads]), graph.int64s(1)], { keepdims: int(1) });
  const divided = graph.op('Div', [graph.op('Max', [magnitude, graph.scalar(LEAST_MAGNITUDE)]), graph.scalar(largest)]);
  const factor = graph.op('Cast', [graph.op('Cast', [divided], { to: int(CAST_TYPE.bf16) })], { to: int(FLOAT) });
  const rounded = graph.op('Round', [graph.op('Div', [heads, factor])]);
  const clipped = graph.op('Clip', [rounded, graph.scalar(-largest), graph.scalar(largest)]);
  // through whole numbers, which have one zero only
  const codes = graph.op('Cast', [graph.op('Cast', [clipped], { to: int(INT8) })], { to: int(FLOAT) });
  const like = graph.op('Shape', [x]);
  return graph.op('Reshape', [graph.op('Mul', [codes, factor]), like]);
}
