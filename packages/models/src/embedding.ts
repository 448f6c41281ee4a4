import { int, type Value } from '@causeway/onnx-graph';
import { weightProduct } from './linear.ts';
import { residualNorm, type Residual } from './rms-norm.ts';
import type { SegmentBuilder } from './segment-builder.ts';

const EMBEDDING = 'model.embed_tokens.weight';

/** Rows of the f32 embedding table for `token_ids` [B, T]: [N, hidden]. */
export function embed(segment: SegmentBuilder, vocabSize: number, hidden: number): Residual {
  const { graph } = segment;
  const ids = graph.op('Reshape', [segment.reserved('token_ids'), graph.int64s(-1)]);
  const table = segment.weight(segment.library.f32(EMBEDDING, [vocabSize, hidden]));
  return { residual: undefined, delta: graph.op('Gather', [table, ids], { axis: int(0) }) };
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
