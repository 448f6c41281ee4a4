import { int, type Value } from '@causeway/onnx-graph';
import type { ConvertibleType } from './convert/convert-job.ts';
import { isQuantized } from './convert/quant-formats.ts';
import { packedForm } from './convert/repack.ts';
import { weightProduct } from './linear.ts';
import { residualNorm, type Residual } from './rms-norm.ts';
import type { SegmentBuilder } from './segment-builder.ts';
import type { WeightRef } from './weight-library.ts';

const EMBEDDING = 'model.embed_tokens.weight';
/** onnx.proto3, TensorProto.DataType.FLOAT. */
const F32 = 1;
/** Of 8-bit blocks (repack.ts). */
const ZERO_POINT = 128;

/**
 * Whether rows are looked up in 8-bit blocks without offsets, whose values are exact. Also where a tied output projection needs f32: ONNX
 * Runtime would keep the f32 table beside what it packs of it.
 */
function staysBlocked(type: ConvertibleType): boolean {
  if (!isQuantized(type)) return false;
  const { bits, hasOffsets } = packedForm(type);
  return bits === 8 && !hasOffsets;
}

/** Rows of the embedding table for `token_ids` [B, T]: [N, hidden]. */
export function embed(segment: SegmentBuilder, o: { vocabSize: number; hidden: number }): Residual {
  const { graph, library } = segment;
  const shape = [o.vocabSize, o.hidden];
  const ids = graph.op('Reshape', [segment.reserved('token_ids'), graph.int64s(-1)]);
  const pick = (weight: WeightRef): Value => graph.op('Gather', [segment.weight(weight), ids], { axis: int(0) });
  // Half the memory of an f32 table; each number is the same.
  const halves = library.stored(EMBEDDING, shape);
  if (halves !== undefined) return { residual: undefined, delta: graph.op('Cast', [pick(halves)], { to: int(F32) }) };
  if (!staysBlocked(library.info(EMBEDDING, shape).type))
    return { residual: undefined, delta: pick(library.f32(EMBEDDING, shape)) };
  const { quants, scales } = library.blocked([{ name: EMBEDDING, outputs: o.vocabSize }], o.hidden);
  const centred = graph.op('Sub', [graph.op('Cast', [pick(quants)], { to: int(F32) }), graph.scalar(ZERO_POINT)]);
  const groups = graph.op('Mul', [centred, graph.op('Unsqueeze', [pick(scales), graph.int64s(2)])]);
  return { residual: undefined, delta: graph.op('Reshape', [groups, graph.int64s(-1, o.hidden)]) };
}

/** Final norm and output projection of the rows `logit_rows` only; writes `logits` [R, vocabSize]. */
export function writeLogits(
  segment: SegmentBuilder,
  state: Residual,
  o: { vocabSize: number; hidden: number; epsilon: number; tied: boolean },
): void {
  const { graph } = segment;
  const rows = segment.reserved('logit_rows');
  const pick = (value: Value): Value => graph.op('Gather', [value, rows], { axis: int(0) });
  const picked: Residual = {
    residual: state.residual === undefined ? undefined : pick(state.residual),
    delta: pick(state.delta),
  };
  const { normed } = residualNorm(segment, picked, 'model.norm', o.hidden, o.epsilon);
  const logits = weightProduct(segment, normed, o.tied ? EMBEDDING : 'lm_head.weight', [o.vocabSize, o.hidden]);
  segment.write({ name: 'logits', type: 'f32', shape: ['R', o.vocabSize] }, logits);
}
