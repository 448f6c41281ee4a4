/** Grouped-query self-attention with its projections, as Llama and its kin have it. */
import { fail } from '@causeway/errors';
import type { LayerGeometry } from '@causeway/kv';
import type { ModelConfig } from '@causeway/model-files';
import type { Value } from '@causeway/onnx-graph';
import type { BuildContext } from './architecture.ts';
import { groupQueryAttention, rotateHeads } from './attention-gqa.ts';
import { roundHeads } from './kv-rounding.ts';
import { joinedLinears, linear, linears } from './linear.ts';
import { rmsNorm } from './rms-norm.ts';
import { rotaryTables } from './rope.ts';
import type { SegmentBuilder } from './segment-builder.ts';

export interface SelfAttention {
  /** Rows of Q and K are stored for rotation of neighbouring pairs. Default false: of the two halves of a head. */
  interleaved?: boolean;
  /** Q, K and V have biases, which must be there. Default: where they are. */
  biases?: boolean;
  /** Each head of Q and K is normalised before it is rotated: `q_norm`, `k_norm`. Default false. */
  headNorms?: boolean;
}

/** RMS norm of each head of x [N, heads * headDim]. */
function headNorm(segment: SegmentBuilder, x: Value, name: string, heads: number, config: ModelConfig): Value {
  const { graph } = segment;
  const rows = graph.op('Reshape', [x, graph.int64s(-1, config.headDim)]);
  const normed = rmsNorm(segment, rows, name, config.headDim, config.rmsNormEps);
  return graph.op('Reshape', [normed, graph.int64s(-1, heads * config.headDim)]);
}

/** Attention of a layer with the weights `model.layers.<layer>.self_attn`. */
export function selfAttention(context: BuildContext, o: SelfAttention = {}) {
  const { config, weights } = context;
  const { hiddenSize, heads, kvHeads, headDim } = config;
  return (segment: SegmentBuilder, x: Value, layer: number): Value => {
    const name = `model.layers.${layer}.self_attn`;
    const parts = [
      { name: `${name}.q_proj`, outputs: heads * headDim },
      { name: `${name}.k_proj`, outputs: kvHeads * headDim },
      { name: `${name}.v_proj`, outputs: kvHeads * headDim },
    ];
    if (o.biases === true) for (const part of parts) weights.info(`${part.name}.bias`, [part.outputs]);
    const shape = {
      layer,
      heads,
      kvHeads,
      headDim,
      rotary: { ...rotaryTables(weights, config, headDim), interleaved: o.interleaved ?? false },
    };
    const { kvRounding } = segment;
    const joined = o.headNorms === true || kvRounding !== undefined ? undefined : joinedLinears(segment, x, parts, hiddenSize);
    if (joined !== undefined) {
      return linear(segment, groupQueryAttention(segment, { joined }, shape), `${name}.o_proj`, hiddenSize, heads * headDim);
    }
    const [q = '', k = '', v = ''] = linears(segment, x, parts, hiddenSize);
    const norm = (value: Value, part: string, count: number): Value =>
      o.headNorms === true ? headNorm(segment, value, `${name}.${part}`, count, config) : value;
    const query = norm(q, 'q_norm', heads);
    const key = norm(k, 'k_norm', kvHeads);
    // Keys are rounded as they are stored, rotated: then the rotation can't be the attention operator's.
    const { rotary, ...plain } = shape;
    const mixed =
      kvRounding === undefined
        ? groupQueryAttention(segment, { q: query, k: key, v }, shape)
        : groupQueryAttention(
            segment,
            {
              q: rotateHeads(segment, query, { heads, headDim, rotary }),
              k: roundHeads(segment, rotateHeads(segment, key, { heads: kvHeads, headDim, rotary }), headDim, kvRounding),
              v: roundHeads(segment, v, headDim, kvRounding),
            },
            plain,
          );
    return linear(segment, mixed, `${name}.o_proj`, hiddenSize, heads * headDim);
  };
}

/** KV geometry of all layers. */
export function fullGeometry({ layers, kvHeads, headDim }: ModelConfig): readonly LayerGeometry[] {
  const layer: LayerGeometry = { kind: 'full', kvHeads, headDimK: headDim, headDimV: headDim };
  return Array.from({ length: layers }, () => layer);
}

/** @throws ServiceError `unsupported_format` when some layers see only a window of the context. */
export function refuseSlidingWindow({ slidingWindow }: ModelConfig): void {
  if (slidingWindow === undefined) return;
  fail('unimplemented', 'unsupported_format', `attention over a window of ${slidingWindow} tokens is not supported`);
}

/** @throws ServiceError `unsupported_format` when a dense architecture's config has experts (Mixtral as a GGUF `llama`). */
export function refuseExperts({ moe, architecture }: ModelConfig): void {
  if (moe === undefined) return;
  fail('unimplemented', 'unsupported_format', `${architecture} with a mixture of ${moe.experts} experts is not supported`);
}
