/**
 * Multi-head latent attention in its absorbed form (DeepSeek-V2, arXiv 2405.04434, section 2.1; `reference` equations in
 * Hugging Face modeling_deepseek_v3.py). With kv_b_proj split by head into Wk_h and Wv_h, head h has the query
 * (Wk_h^T q_nope, q_pe) against the one shared key (c, k_pe), and its output is Wv_h applied to the mix of c. So it is
 * attention with a single KV head whose key and value are the cached latent itself.
 */
import { int, OMITTED, type Value } from '@causeway/onnx-graph';
import type { LayerGeometry } from '@causeway/kv';
import { groupQueryAttention, rotateHeads } from './attention-gqa.ts';
import { cacheShape } from './cache-shape.ts';
import { linear, matMulTransposed, splitColumns, weightProduct } from './linear.ts';
import { roundLatent } from './kv-rounding.ts';
import { rmsNorm } from './rms-norm.ts';
import type { SegmentBuilder } from './segment-builder.ts';
import type { WeightRef } from './weight-library.ts';

export interface LatentAttention {
  layer: number;
  /** Prefix of the weights, `model.layers.<layer>.self_attn`. */
  name: string;
  hidden: number;
  heads: number;
  /** undefined: one q_proj instead of q_a_proj, q_a_layernorm, q_b_proj. */
  qLoraRank: number | undefined;
  rank: number;
  nopeDim: number;
  ropeDim: number;
  valueDim: number;
  /** Score factor. */
  scale: number;
  /** Of q_a_layernorm and kv_a_layernorm. */
  normEpsilon: number;
  rotary: { cos: WeightRef; sin: WeightRef; interleaved: boolean };
}

/** Rotates [N, heads * ropeDim] by position. */
function rotate(segment: SegmentBuilder, x: Value, heads: number, o: LatentAttention): Value {
  return rotateHeads(segment, x, { heads, headDim: o.ropeDim, rotary: o.rotary });
}

function queries(segment: SegmentBuilder, x: Value, o: LatentAttention): Value {
  const width = o.heads * (o.nopeDim + o.ropeDim);
  if (o.qLoraRank === undefined) return linear(segment, x, `${o.name}.q_proj`, width, o.hidden);
  const low = linear(segment, x, `${o.name}.q_a_proj`, o.qLoraRank, o.hidden);
  const normed = rmsNorm(segment, low, `${o.name}.q_a_layernorm`, o.qLoraRank, o.normEpsilon);
  return linear(segment, normed, `${o.name}.q_b_proj`, width, o.qLoraRank);
}

/** Rows of kv_b_proj [heads * (nopeDim + valueDim), rank] that belong to one head's keys or values. */
function headWeight(segment: SegmentBuilder, o: LatentAttention, head: number, part: 'key' | 'value'): WeightRef {
  const perHead = o.nopeDim + o.valueDim;
  const range =
    part === 'key' ? { first: head * perHead, count: o.nopeDim } : { first: head * perHead + o.nopeDim, count: o.valueDim };
  return segment.library.f32(`${o.name}.kv_b_proj.weight`, [o.heads * perHead, o.rank], range);
}

/** Wk_h^T q_nope. One product per head: a 2-D weight is packed once by the session, and its rows are computed alike in every batch. */
function absorbedQuery(segment: SegmentBuilder, nope: Value, o: LatentAttention, head: number): Value {
  const split = `${o.name}.k_b_proj.${head}.weight`;
  if (segment.library.has(split)) return weightProduct(segment, nope, split, [o.rank, o.nopeDim]);
  return segment.graph.op('MatMul', [nope, segment.weight(headWeight(segment, o, head, 'key'))]);
}

/** Wv_h u_h. */
function headOutput(segment: SegmentBuilder, mixed: Value, o: LatentAttention, head: number): Value {
  const split = `${o.name}.v_b_proj.${head}.weight`;
  if (segment.library.has(split)) return weightProduct(segment, mixed, split, [o.valueDim, o.rank]);
  return matMulTransposed(segment, mixed, headWeight(segment, o, head, 'value'));
}

function zeroColumns(segment: SegmentBuilder, like: Value, count: number): Value {
  const { graph } = segment;
  return segment.derived(`zero columns ${count}`, () => {
    const rows = graph.op('Slice', [graph.op('Shape', [like]), graph.int64s(0), graph.int64s(1)]);
    const zero = graph.constant(`zero.${count}`, 'f32', [1, count], new Float32Array(count));
    return graph.op('Expand', [zero, graph.op('Concat', [rows, graph.int64s(count)], { axis: int(0) })]);
  });
}

/** (Wk_h^T q_nope, rotated q_pe, zeros) of every head side by side: [N, heads * width]. */
function absorbedQueries(segment: SegmentBuilder, q: Value, o: LatentAttention, padding: readonly Value[]): Value {
  const { graph } = segment;
  const parts = splitColumns(
    segment,
    q,
    Array.from({ length: o.heads * 2 }, (_, i) => (i % 2 === 0 ? o.nopeDim : o.ropeDim)),
  );
  const heads = Array.from({ length: o.heads }, (_, head) => head);
  const positional = graph.op(
    'Concat',
    heads.map((head) => parts[2 * head + 1] ?? OMITTED),
    { axis: int(1) },
  );
  const rotated = splitColumns(segment, rotate(segment, positional, o.heads, o), Array<number>(o.heads).fill(o.ropeDim));
  const columns = heads.flatMap((head) => [
    absorbedQuery(segment, parts[2 * head] ?? OMITTED, o, head),
    rotated[head] ?? OMITTED,
    ...padding,
  ]);
  return graph.op('Concat', columns, { axis: int(1) });
}

/** Wv_h u_h of every head side by side, u_h being the first `rank` columns of each head's mix: [N, heads * valueDim]. */
function headOutputs(segment: SegmentBuilder, mixed: Value, o: LatentAttention, width: number): Value {
  const parts = splitColumns(
    segment,
    mixed,
    Array.from({ length: o.heads * 2 }, (_, i) => (i % 2 === 0 ? o.rank : width - o.rank)),
  );
  const outputs = Array.from({ length: o.heads }, (_, head) => headOutput(segment, parts[2 * head] ?? OMITTED, o, head));
  return segment.graph.op('Concat', outputs, { axis: int(1) });
}

/** Attention of x [N, hidden] with the layer's latent cache: [N, hidden]. */
export function latentAttention(segment: SegmentBuilder, x: Value, o: LatentAttention): Value {
  const { graph } = segment;
  const geometry: LayerGeometry = { kind: 'latent', rank: o.rank, ropeDim: o.ropeDim };
  const { width } = cacheShape(geometry);
  const spare = width - o.rank - o.ropeDim;
  const padding = spare === 0 ? [] : [zeroColumns(segment, x, spare)];

  const compressed = linear(segment, x, `${o.name}.kv_a_proj_with_mqa`, o.rank + o.ropeDim, o.hidden);
  const [c = OMITTED, keyPosition = OMITTED] = splitColumns(segment, compressed, [o.rank, o.ropeDim]);
  const normed = rmsNorm(segment, c, `${o.name}.kv_a_layernorm`, o.rank, o.normEpsilon);
  const rope = rotate(segment, keyPosition, 1, o);
  const { rank, ropeDim } = o;
  const { kvRounding } = segment;
  const parts =
    kvRounding === undefined ? [normed, rope] : [roundLatent(segment, { latent: normed, rank, rope, ropeDim }, kvRounding)];
  const latent = graph.op('Concat', [...parts, ...padding], { axis: int(1) });

  const query = absorbedQueries(segment, queries(segment, x, o), o, padding);
  const mixed = groupQueryAttention(
    segment,
    { q: query, k: latent, v: latent },
    {
      layer: o.layer,
      heads: o.heads,
      kvHeads: 1,
      headDim: width,
      scale: o.scale,
    },
  );
  return linear(segment, headOutputs(segment, mixed, o, width), `${o.name}.o_proj`, o.hidden, o.heads * o.valueDim);
}
