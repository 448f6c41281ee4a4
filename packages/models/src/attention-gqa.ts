import { fail } from '@causeway/errors';
import { float, int, OMITTED, type Value } from '@causeway/onnx-graph';
import type { SegmentBuilder } from './segment-builder.ts';
import type { WeightRef } from './weight-library.ts';

export interface GroupQueryAttention {
  layer: number;
  heads: number;
  kvHeads: number;
  /** Width of a head of Q, K and V; a multiple of 8. */
  headDim: number;
  /** Score factor; default headDim^-0.5. */
  scale?: number;
  /** Rotates Q and K by position inside the operator: tables [contextLength, headDim / 2]. */
  rotary?: { cos: WeightRef; sin: WeightRef; interleaved: boolean };
}

/** Rows [N, width] as sequences [B, T, width]. */
export function toSequences(segment: SegmentBuilder, x: Value, width: number): Value {
  const { graph } = segment;
  const shape = segment.derived(`sequences ${width}`, () => {
    const batch = segment.derived('batch', () => graph.op('Shape', [segment.reserved('seqlens_k')]));
    return graph.op('Concat', [batch, graph.int64s(-1, width)], { axis: int(0) });
  });
  return graph.op('Reshape', [x, shape]);
}

/** Sequences [B, T, width] as rows [N, width]. */
export function toRows(segment: SegmentBuilder, x: Value, width: number): Value {
  return segment.graph.op('Reshape', [x, segment.graph.int64s(-1, width)]);
}

/** Rotates x [N, heads * headDim] by position. */
export function rotateHeads(
  segment: SegmentBuilder,
  x: Value,
  o: { heads: number; headDim: number; rotary: NonNullable<GroupQueryAttention['rotary']> },
): Value {
  const width = o.heads * o.headDim;
  const { cos, sin, interleaved } = o.rotary;
  const rotated = segment.graph.contrib(
    'RotaryEmbedding',
    [toSequences(segment, x, width), segment.reserved('position_ids'), segment.weight(cos), segment.weight(sin)],
    { interleaved: int(interleaved ? 1 : 0), num_heads: int(o.heads), rotary_embedding_dim: int(o.headDim) },
  );
  return toRows(segment, rotated, width);
}

/** What attends: q [N, heads * headDim] with k and v [N, kvHeads * headDim], or all three in one, side by side in each row. */
export type Queries = { q: Value; k: Value; v: Value } | { joined: Value };

function sequences(segment: SegmentBuilder, x: Queries, { heads, kvHeads, headDim }: GroupQueryAttention): Value[] {
  if ('joined' in x) return [toSequences(segment, x.joined, (heads + 2 * kvHeads) * headDim), OMITTED, OMITTED];
  return [
    toSequences(segment, x.q, heads * headDim),
    toSequences(segment, x.k, kvHeads * headDim),
    toSequences(segment, x.v, kvHeads * headDim),
  ];
}

/**
 * Causal attention over the layer's cache, which the operator extends in place; gives [N, heads * headDim]. Throws ServiceError `unsupported_format` or `malformed_file` for heads
 * that the operator cannot take.
 */
export function groupQueryAttention(segment: SegmentBuilder, x: Queries, o: GroupQueryAttention): Value {
  if (o.headDim % 8 !== 0) {
    fail(
      'unimplemented',
      'unsupported_format',
      `attention heads of ${o.headDim} channels are not supported: they must be a multiple of 8`,
    );
  }
  if (o.heads % o.kvHeads !== 0) {
    fail('invalid_argument', 'malformed_file', `${o.heads} attention heads cannot share ${o.kvHeads} key-value heads evenly`);
  }
  const cache = segment.cache(o.layer, o.kvHeads, o.headDim);
  const attributes = {
    num_heads: int(o.heads),
    kv_num_heads: int(o.kvHeads),
    ...(o.scale === undefined ? {} : { scale: float(o.scale) }),
  };
  const rotary = o.rotary;
  const [output] = segment.graph.node(
    'GroupQueryAttention',
    [
      ...sequences(segment, x, o),
      ...cache.past,
      segment.reserved('seqlens_k'),
      segment.reserved('total_sequence_length'),
      ...(rotary === undefined ? [] : [segment.weight(rotary.cos), segment.weight(rotary.sin)]),
    ],
    {
      domain: 'com.microsoft',
      attributes:
        rotary === undefined
          ? attributes
          : { ...attributes, do_rotary: int(1), rotary_interleaved: int(rotary.interleaved ? 1 : 0) },
      outputs: [`attention.${o.layer}`, ...cache.present],
    },
  );
  cache.declarePresent();
  return toRows(segment, output ?? OMITTED, o.heads * o.headDim);
}
