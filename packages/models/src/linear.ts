/**
 * y = x W^T (+ bias) with W [out, in] as checkpoints store it. Every form gives a row the same bits whatever other rows
 * are computed with it: f32 weights are packed once by FusedMatMul, and 4-bit weights get a row of zeros below their input. Their
 * kernel for a single row differs from the one for several (at level 0 everywhere, at level 4 on processors that have AVX2 alone),
 * and threads share the work in tiles of 128 rows, so that the last row of 129 would be alone too: now the zeros are.
 */
import { int, type Value } from '@causeway/onnx-graph';
import type { SegmentBuilder } from './segment-builder.ts';
import type { ConvertibleType } from './convert/convert-job.ts';
import type { Precision } from './types.ts';
import type { BlockedWeight, WeightRef } from './weight-library.ts';

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

function matMulNBits(segment: SegmentBuilder, x: Value, weight: BlockedWeight, level: number): Value {
  const [outputs = 0, blocks = 0] = weight.quants.shape;
  return segment.graph.contrib('MatMulNBits', [x, segment.weight(weight.quants), segment.weight(weight.scales)], {
    K: int(blocks * QUANT_BLOCK),
    N: int(outputs),
    bits: int(weight.bits),
    block_size: int(QUANT_BLOCK),
    accuracy_level: int(level),
  });
}

function blockedProduct(segment: SegmentBuilder, x: Value, weight: BlockedWeight, inputs: number): Value {
  const { graph } = segment;
  const level = segment.precision === 'fast' ? INT8_LEVEL : EXACT_LEVEL;
  let y: Value;
  if (weight.bits === 4) {
    const all = matMulNBits(segment, padded(segment, x, inputs), weight, level);
    y = graph.op('Slice', [all, graph.int64s(0), graph.int64s(-1), graph.int64s(0)]);
  } else {
    y = matMulNBits(segment, x, weight, level);
  }
  if (weight.offsets === undefined) return y;
  return graph.op('Gemm', [blockSums(segment, x, inputs), segment.weight(weight.offsets), y], { transB: int(1) });
}

/** Whether a stored type is multiplied in blocks rather than as f32. */
function isBlocked(type: ConvertibleType, precision: Precision): boolean {
  return type === 'Q4_0' || type === 'Q4_1' || (type === 'Q8_0' && precision === 'fast');
}

/**
 * Multiplies x [N, in] by the weight [out, in] in the best form its storage and the precision allow: 4-bit blocks stay 4-bit,
 * 8-bit blocks stay 8-bit in `fast` and become f32 in `exact`, everything else is f32. Gives [N, out].
 */
export function weightProduct(segment: SegmentBuilder, x: Value, weight: string, shape: readonly [number, number]): Value {
  const { library } = segment;
  const { type } = library.info(weight, shape);
  if (!isBlocked(type, segment.precision)) return matMulTransposed(segment, x, library.f32(weight, shape));
  return blockedProduct(segment, x, library.blocked([{ name: weight, outputs: shape[0] }], shape[1]), shape[1]);
}

function withBias(segment: SegmentBuilder, y: Value, name: string, outputs: number): Value {
  const bias = `${name}.bias`;
  if (!segment.library.has(bias)) return y;
  return segment.graph.op('Add', [y, segment.weight(segment.library.f32(bias, [outputs]))]);
}

/** `weightProduct` with `<name>.weight`, plus `<name>.bias` when the checkpoint has one. */
export function linear(segment: SegmentBuilder, x: Value, name: string, outputs: number, inputs: number): Value {
  return withBias(segment, weightProduct(segment, x, `${name}.weight`, [outputs, inputs]), name, outputs);
}

/**
 * Several `linear`s of the same x. Weights that are converted anyway are laid below each other and multiplied at once, which
 * saves two operators in three; f32 weights stay where they are mapped.
 */
export function linears(
  segment: SegmentBuilder,
  x: Value,
  parts: readonly { name: string; outputs: number }[],
  inputs: number,
): readonly Value[] {
  const types = new Set(parts.map(({ name, outputs }) => segment.library.info(`${name}.weight`, [outputs, inputs]).type));
  const [type = 'F32'] = types;
  if (types.size > 1 || !isBlocked(type, segment.precision)) {
    return parts.map(({ name, outputs }) => linear(segment, x, name, outputs, inputs));
  }
  const members = parts.map(({ name, outputs }) => ({ name: `${name}.weight`, outputs }));
  const all = blockedProduct(segment, x, segment.library.blocked(members, inputs), inputs);
  const split = splitColumns(
    segment,
    all,
    parts.map(({ outputs }) => outputs),
  );
  return parts.map(({ name, outputs }, i) => withBias(segment, split[i] ?? '', name, outputs));
}

/** Cuts [N, width] into one value per entry of `widths`, along the last axis. */
export function splitColumns(segment: SegmentBuilder, x: Value, widths: readonly number[]): readonly Value[] {
  const { graph } = segment;
  return graph.node('Split', [x, graph.int64s(...widths)], { attributes: { axis: int(-1) }, outputs: widths.length });
}
