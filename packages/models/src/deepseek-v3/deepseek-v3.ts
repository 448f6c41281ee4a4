/** DeepSeek-V3: latent attention, dense SwiGLU in the first layers, then a mixture of experts with shared experts. */
import { fail } from '@causeway/errors';
import type { LayerGeometry } from '@causeway/kv';
import type { ModelConfig } from '@causeway/model-files';
import type { Value } from '@causeway/onnx-graph';
import type { Architecture, Blueprint, BuildContext } from '../architecture.ts';
import { latentAttention } from '../attention-mla.ts';
import { embed, writeLogits } from '../embedding.ts';
import { groupedSigmoidRouter } from '../moe-router.ts';
import { routedExperts } from '../moe-experts.ts';
import { type Residual, residualNorm } from '../rms-norm.ts';
import { attentionScaleFactor, rotaryTables } from '../rope.ts';
import { SegmentChain } from '../segment-chain.ts';
import { type SegmentBuilder, tokenRows } from '../segment-builder.ts';
import { swigluMlp } from '../swiglu.ts';
import type { ValueSpec } from '../types.ts';

/**
 * Hugging Face's DeepseekV3RMSNorm of the compressed query and latent is made with its default epsilon whatever the
 * config's rms_norm_eps says (modeling_deepseek_v3.py, DeepseekV3Attention.__init__).
 */
const LATENT_NORM_EPSILON = 1e-6;

type Mla = NonNullable<ModelConfig['mla']>;
type Moe = NonNullable<ModelConfig['moe']>;

function attention(segment: SegmentBuilder, x: Value, layer: number, context: BuildContext, mla: Mla): Value {
  const { config } = context;
  return latentAttention(segment, x, {
    layer,
    name: `model.layers.${layer}.self_attn`,
    hidden: config.hiddenSize,
    heads: config.heads,
    qLoraRank: mla.qLoraRank,
    rank: mla.kvLoraRank,
    nopeDim: mla.qkNopeHeadDim,
    ropeDim: mla.qkRopeHeadDim,
    valueDim: mla.vHeadDim,
    scale: (mla.qkNopeHeadDim + mla.qkRopeHeadDim) ** -0.5 * attentionScaleFactor(config.rope),
    normEpsilon: LATENT_NORM_EPSILON,
    rotary: { ...rotaryTables(context.weights, config, mla.qkRopeHeadDim), interleaved: mla.ropeInterleaved },
  });
}

/** Ends the segment at the router; the experts get their own; the next one combines them with the shared experts. */
function mixture(chain: SegmentChain, x: Value, residual: Value, layer: number, config: ModelConfig, moe: Moe): Residual {
  const name = `model.layers.${layer}.mlp`;
  const hidden = config.hiddenSize;
  const router = groupedSigmoidRouter(chain.current, x, {
    name: `${name}.gate`,
    hidden,
    experts: moe.experts,
    expertsPerToken: moe.expertsPerToken,
    groups: moe.groups,
    groupsPerToken: moe.groupsPerToken,
    normalize: moe.normalizeTopK,
    scale: moe.routedScale,
  });
  const spec = (part: string, type: 'f32' | 'i64', width: number): ValueSpec => ({
    name: `moe.${layer}.${part}`,
    type,
    shape: tokenRows(width),
  });
  const rows = spec('rows', 'f32', hidden);
  const ids = spec('ids', 'i64', moe.expertsPerToken);
  const weights = spec('weights', 'f32', moe.expertsPerToken);
  const output = spec('output', 'f32', hidden);
  const kept = spec('residual', 'f32', hidden);
  const live = [
    { ...rows, value: x },
    { ...ids, value: router.ids },
    { ...weights, value: router.weights },
    { ...kept, value: residual },
  ];
  chain.experts(layer, live, (segment) => {
    const routed = { rows: segment.read(rows), ids: segment.read(ids), weights: segment.read(weights) };
    const shape = { hidden, inner: moe.expertInner, experts: moe.experts };
    segment.write(output, routedExperts(segment, routed, { name: `${name}.experts`, ...shape }));
  });
  const next = chain.current;
  const routed = next.read(output);
  if (moe.sharedExperts === 0) return { residual: next.read(kept), delta: routed };
  const shared = swigluMlp(next, next.read(rows), `${name}.shared_experts`, hidden, moe.sharedExperts * moe.expertInner);
  return { residual: next.read(kept), delta: next.graph.op('Add', [routed, shared]) };
}

function block(chain: SegmentChain, state: Residual, layer: number, context: BuildContext, mla: Mla): Residual {
  const { config } = context;
  const { hiddenSize, intermediateSize, rmsNormEps, moe } = config;
  const name = `model.layers.${layer}`;
  chain.enter(layer);
  const segment = chain.current;
  const before = residualNorm(segment, state, `${name}.input_layernorm`, hiddenSize, rmsNormEps);
  const attended = { residual: before.residual, delta: attention(segment, before.normed, layer, context, mla) };
  const after = residualNorm(segment, attended, `${name}.post_attention_layernorm`, hiddenSize, rmsNormEps);
  if (moe === undefined || layer < moe.firstDenseLayers) {
    return { residual: after.residual, delta: swigluMlp(segment, after.normed, `${name}.mlp`, hiddenSize, intermediateSize) };
  }
  return mixture(chain, after.normed, after.residual, layer, config, moe);
}

function checkMixture(moe: Moe): void {
  const perGroup = moe.experts / moe.groups;
  if (moe.scoring !== 'sigmoid') {
    fail('unimplemented', 'unsupported_format', `routing by ${moe.scoring} is not deepseek_v3's: it scores experts by sigmoid`);
  }
  if (!Number.isInteger(perGroup) || moe.groupsPerToken > moe.groups || moe.expertsPerToken > moe.groupsPerToken * perGroup) {
    const choice = `${moe.expertsPerToken} of ${moe.experts} experts in ${moe.groupsPerToken} of ${moe.groups} groups`;
    fail('invalid_argument', 'malformed_file', `the config asks for ${choice}, which cannot be chosen`);
  }
}

function build(context: BuildContext): Blueprint {
  const { config } = context;
  const { mla } = config;
  if (config.moe !== undefined) checkMixture(config.moe);
  if (mla === undefined)
    fail('invalid_argument', 'malformed_file', 'a deepseek_v3 config must have kv_lora_rank and its head sizes');
  const geometry: LayerGeometry = { kind: 'latent', rank: mla.kvLoraRank, ropeDim: mla.qkRopeHeadDim };
  const chain = new SegmentChain(context);
  let state = embed(chain.current, config.vocabSize, config.hiddenSize);
  for (let layer = 0; layer < config.layers; layer++) {
    // After a mixture of experts a new segment has just begun.
    if (context.cuts.has(layer) && !chain.empty) state = chain.cut(state, layer, config.hiddenSize);
    state = block(chain, state, layer, context, mla);
  }
  writeLogits(chain.current, state, {
    vocabSize: config.vocabSize,
    hidden: config.hiddenSize,
    epsilon: config.rmsNormEps,
    tied: config.tieWordEmbeddings,
  });
  return { layers: Array.from({ length: config.layers }, () => geometry), segments: chain.finish() };
}

export const deepseekV3: Architecture = { name: 'deepseek_v3', build };
