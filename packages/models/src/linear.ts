/**
 * y = x W^T (+ bias) with W [out, in] as checkpoints store it. Every form gives a row the same bits whatever other rows
 * are computed with it: f32 weights are packed once by FusedMatMul, and 4-bit weights get a row of zeros below their input where their
 * kernel for a single row differs from the one for several (at level 0 everywhere, at level 4 on processors that have AVX2 alone:
 * `loneRowsAlike` measures it). Threads share the work in tiles of 128 rows, so that the last row of 129 would be alone too: now
 * the zeros are.
 */
import { int, type Value } from '@causeway/onnx-graph';
import { INT8_LEVEL } from './lone-rows.ts';
import { int8Parts, sumOfParts } from './wide-products.ts';
import type { SegmentBuilder } from './segment-builder.ts';
import type { ConvertibleType } from './convert/convert-job.ts';
import { isQuantized } from './convert/quant-formats.ts';
import { packedForm } from './convert/repack.ts';
import type { BlockedWeight, WeightRef } from './weight-library.ts';

/** MatMulNBits' accuracy level with f32 activations. */
const EXACT_LEVEL = 0;

/** x [N, in] times the transpose of an f32 weight [out, in]. Only the CPU's provider has FusedMatMul. */
export function matMulTransposed(segment: SegmentBuilder, x: Value, weight: WeightRef): Value {
  if (segment.onDevice) return segment.graph.op('Gemm', [x, segment.weight(weight)], { transB: int(1) });
  return segment.graph.contrib('FusedMatMul', [x, segment.weight(weight)], { transB: int(1) });
}

/** Sums of x [N, in] over groups of inputs: [N, in / group]. */
function groupSums(segment: SegmentBuilder, x: Value, inputs: number, group: number): Value {
  const { graph } = segment;
  return segment.derived(`sums over ${group} of ${x}`, () => {
    const groups = graph.op('Reshape', [x, graph.int64s(-1, inputs / group, group)]);
    return graph.op('ReduceSum', [groups, graph.int64s(2)], { keepdims: int(0) });
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
  const [outputs = 0, groups = 0] = weight.quants.shape;
  return segment.graph.contrib('MatMulNBits', [x, segment.weight(weight.quants), segment.weight(weight.scales)], {
    K: int(groups * weight.group),
    N: int(outputs),
    bits: int(weight.bits),
    block_size: int(weight.group),
    accuracy_level: int(level),
  });
}

function blockedProduct(segment: SegmentBuilder, x: Value, weight: BlockedWeight, inputs: number): Value {
  const { graph } = segment;
  const level = segment.precision === 'fast' ? INT8_LEVEL : EXACT_LEVEL;
  let y: Value;
  if (weight.bits === 8 && segment.precision === 'exact') {
    const parts = segment.derived(`parts by ${weight.group} of ${x}`, () => int8Parts(graph, x, inputs, weight.group));
    y = sumOfParts(graph, matMulNBits(segment, parts, weight, INT8_LEVEL));
  } else if (weight.bits === 4 && (segment.loneRows === 'differ' || (segment.loneRows === 'alike' && level === EXACT_LEVEL))) {
    const all = matMulNBits(segment, padded(segment, x, inputs), weight, level);
    y = graph.op('Slice', [all, graph.int64s(0), graph.int64s(-1), graph.int64s(0)]);
  } else {
    y = matMulNBits(segment, x, weight, level);
  }
  if (weight.offsets === undefined) return y;
  return graph.op('Gemm', [groupSums(segment, x, inputs, weight.group), segment.weight(weight.offsets), y], { transB: int(1) });
}

/** Whether a stored type is multiplied in blocks rather than as f32. */
function isBlocked({ precision, wideProducts }: SegmentBuilder, type: ConvertibleType): boolean {
  return isQuantized(type) && (packedForm(type).bits === 4 || precision === 'fast' || wideProducts === 'parts');
}

/**
 * Multiplies x [N, in] by the weight [out, in] in the best form its storage, the precision and the kernels allow: 4-bit blocks stay
 * 4-bit, wider ones are 8-bit, but become f32 in `exact` without kernels for them; everything else is f32. Gives [N, out].
 */
export function weightProduct(segment: SegmentBuilder, x: Value, weight: string, shape: readonly [number, number]): Value {
  const { library } = segment;
  if (library.isPacked(weight))
    return blockedProduct(segment, x, library.packed({ name: weight, outputs: shape[0] }, shape[1]), shape[1]);
  const { type } = library.info(weight, shape);
  if (!isBlocked(segment, type)) return matMulTransposed(segment, x, library.f32(weight, shape));
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
 * Several `linear`s of the same x. Weights that are converted anyway are laid below each other by type and multiplied at once, which
 * saves two operators in three; f32 weights stay where they are mapped.
 */
export function linears(
  segment: SegmentBuilder,
  x: Value,
  parts: readonly { name: string; outputs: number }[],
  inputs: number,
): readonly Value[] {
  const { library } = segment;
  const typeOf = ({ name, outputs }: { name: string; outputs: number }): ConvertibleType =>
    library.info(`${name}.weight`, [outputs, inputs]).type;
  const results = new Map<string, Value>();
  const whole = parts.filter(({ name }) => !library.isPacked(`${name}.weight`));
  for (const [type, alike] of Map.groupBy(whole, typeOf)) {
    if (alike.length === 1 || !isBlocked(segment, type)) continue;
    const members = alike.map(({ name, outputs }) => ({ name: `${name}.weight`, outputs }));
    const all = blockedProduct(segment, x, library.blocked(members, inputs), inputs);
    const widths = alike.map(({ outputs }) => outputs);
    const split = splitColumns(segment, all, widths);
    alike.forEach(({ name, outputs }, i) => results.set(name, withBias(segment, split[i] ?? '', name, outputs)));
  }
  return parts.map(({ name, outputs }) => results.get(name) ?? linear(segment, x, name, outputs, inputs));
}

/** `linears` as one value [N, all outputs], where that is one product: blocks of one type, no bias. */
export function joinedLinears(
  segment: SegmentBuilder,
  x: Value,
  parts: readonly { name: string; outputs: number }[],
  inputs: number,
): Value | undefined {
  const { library } = segment;
  if (parts.some(({ name }) => library.isPacked(`${name}.weight`))) return undefined;
  const types = new Set(parts.map(({ name, outputs }) => library.info(`${name}.weight`, [outputs, inputs]).type));
  const [type] = types;
  if (type === undefined || types.size > 1 || !isBlocked(segment, type)) return undefined;
  if (parts.some(({ name }) => library.has(`${name}.bias`))) return undefined;
  const members = parts.map(({ name, outputs }) => ({ name: `${name}.weight`, outputs }));
  return blockedProduct(segment, x, library.blocked(members, inputs), inputs);
}

/** A kernel of a device that is no CPU has some eight buffers at least, the input's among them. */
const DEVICE_PARTS = 6;

/** Cuts [N, width] into one value per entry of `widths`, along the last axis. */
export function splitColumns(segment: SegmentBuilder, x: Value, widths: readonly number[]): readonly Value[] {
  const { graph } = segment;
  if (segment.onDevice && widths.length > DEVICE_PARTS) {
    let end = 0;
    return widths.map((width) => {
      const start = end;
      end += width;
      return graph.op('Slice', [x, graph.int64s(start), graph.int64s(end), graph.int64s(1)]);
    });
  }
  return graph.node('Split', [x, graph.int64s(...widths)], { attributes: { axis: int(-1) }, outputs: widths.length });
}
