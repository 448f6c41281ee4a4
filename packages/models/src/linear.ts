/**
 * y = x W^T (+ bias) with W [out, in] as checkpoints store it. Every form gives a row the same bits whatever other rows
 * are computed with it: f32 weights are packed once by FusedMatMul, and 4-bit weights at accuracy level 0, whose kernel for a
 * single row differs from the one for several, always get at least two rows.
 */
import { int, type Value } from '@causeway/onnx-graph';
import type { SegmentBuilder } from './segment-builder.ts';
import type { WeightRef } from './weight-library.ts';

const QUANT_BLOCK = 32;
/** MatMulNBits accuracy levels: f32 activations, or activations rounded to int8 per block. */
const EXACT_LEVEL = 0;
const INT8_LEVEL = 4;

/** x [.., in] times the transpose of an f32 weight [out, in]. */
export function matMulTransposed(segment: SegmentBuilder, x: Value, weight: WeightRef): Value {
  return segment.graph.contrib('FusedMatMul', [x, segment.weight(weight)], { transB: int(1) });
}

/** Sums of x [N, in] over blocks of 32: [N, in / 32]. */
function blockSums(segment: SegmentBuilder, x: Value, inputs: number): Value {
  const { graph } = segment;
  return segment.derived(`block sums of ${x}`, () => {
    const blocks = graph.op('Reshape', [x, graph.int64s(-1, inputs / QUANT_BLOCK, QUANT_BLOCK)]);
    return graph.op('ReduceSum', [blocks, graph.int64s(2)], { keepdims: int(0) });
  });
}

/** x with a row of zeros below it: [N + 1, in]. */
function padded(segment: SegmentBuilder, x: Value, inputs: number): Value {
  const { graph } = segment;
  return segment.derived(`${x} padded`, () => {
    const zeros = segment.derived(`zeros ${inputs}`, () =>
      graph.constant(`zeros.${inputs}`, 'f32', [1, inputs], new Float32Array(inputs)),
    );
    return graph.op('Concat', [x, zeros], { axis: int(0) });
  });
}

function matMulNBits(segment: SegmentBuilder, x: Value, quants: WeightRef, scales: WeightRef, bits: 4 | 8, level: number): Value {
  const [outputs = 0, blocks = 0] = quants.shape;
  return segment.graph.contrib('MatMulNBits', [x, segment.weight(quants), segment.weight(scales)], {
    K: int(blocks * QUANT_BLOCK),
    N: int(outputs),
    bits: int(bits),
    block_size: int(QUANT_BLOCK),
    accuracy_level: int(level),
  });
}

function linear4(segment: SegmentBuilder, x: Value, name: string, shape: readonly [number, number]): Value {
  const { graph } = segment;
  const { quants, scales, offsets } = segment.library.nbits4(name, shape);
  let y: Value;
  if (segment.precision === 'fast') {
    y = matMulNBits(segment, x, quants, scales, 4, INT8_LEVEL);
  } else {
    const all = matMulNBits(segment, padded(segment, x, shape[1]), quants, scales, 4, EXACT_LEVEL);
    y = graph.op('Slice', [all, graph.int64s(0), graph.int64s(-1), graph.int64s(0)]);
  }
  if (offsets === undefined) return y;
  return graph.op('Add', [y, matMulTransposed(segment, blockSums(segment, x, shape[1]), offsets)]);
}

/**
 * Multiplies x [N, in] by the weight `<name>.weight` [out, in] in the best form its storage and the precision allow:
 * 4-bit blocks stay 4-bit, 8-bit blocks stay 8-bit in `fast` and become f32 in `exact`, everything else is f32.
 * Adds `<name>.bias` when the checkpoint has one. Gives [N, out].
 */
export function linear(segment: SegmentBuilder, x: Value, name: string, outputs: number, inputs: number): Value {
  const y = weightProduct(segment, x, `${name}.weight`, [outputs, inputs]);
  const bias = `${name}.bias`;
  if (!segment.library.has(bias)) return y;
  return segment.graph.op('Add', [y, segment.weight(segment.library.f32(bias, [outputs]))]);
}

/** `linear` without a bias, for a weight of any name. */
export function weightProduct(segment: SegmentBuilder, x: Value, weight: string, shape: readonly [number, number]): Value {
  const { type } = segment.library.info(weight, shape);
  if (type === 'Q4_0' || type === 'Q4_1') return linear4(segment, x, weight, shape);
  if (type === 'Q8_0' && segment.precision === 'fast') {
    const { quants, scales } = segment.library.nbits8(weight, shape);
    return matMulNBits(segment, x, quants, scales, 8, INT8_LEVEL);
  }
  return matMulTransposed(segment, x, segment.library.f32(weight, shape));
}

/** Cuts [N, width] into one value per entry of `widths`, along the last axis. */
export function splitColumns(segment: SegmentBuilder, x: Value, widths: readonly number[]): readonly Value[] {
  const { graph } = segment;
  return graph.node('Split', [x, graph.int64s(...widths)], { attributes: { axis: int(-1) }, outputs: widths.length });
}
