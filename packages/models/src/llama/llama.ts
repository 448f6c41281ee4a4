/** Llama: pre-norm blocks of grouped-query attention with rotary positions and a SwiGLU MLP. */
import type { LayerGeometry } from '@causeway/kv';
import type { ModelConfig } from '@causeway/model-files';
import type { Value } from '@causeway/onnx-graph';
import type { Architecture, Blueprint, BuildContext } from '../architecture.ts';
import { groupQueryAttention } from '../attention-gqa.ts';
import { embed, writeLogits } from '../embedding.ts';
import { linear, linears } from '../linear.ts';
import { type Residual, residualNorm } from '../rms-norm.ts';
import { rotaryTables } from '../rope.ts';
import { SegmentChain } from '../segment-chain.ts';
import type { SegmentBuilder } from '../segment-builder.ts';
import { swigluMlp } from '../swiglu.ts';

function attention(segment: SegmentBuilder, x: Value, layer: number, context: BuildContext): Value {
  const { config } = context;
  const name = `model.layers.${layer}.self_attn`;
  const queryWidth = config.heads * config.headDim;
  const kvWidth = config.kvHeads * config.headDim;
  const [q = '', k = '', v = ''] = linears(
    segment,
    x,
    [
      { name: `${name}.q_proj`, outputs: queryWidth },
      { name: `${name}.k_proj`, outputs: kvWidth },
      { name: `${name}.v_proj`, outputs: kvWidth },
    ],
    config.hiddenSize,
  );
  const mixed = groupQueryAttention(segment, q, k, v, {
    layer,
    heads: config.heads,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    rotary: { ...rotaryTables(context.weights, config, config.headDim), interleaved: context.ropePermuted },
  });
  return linear(segment, mixed, `${name}.o_proj`, config.hiddenSize, queryWidth);
}

function block(segment: SegmentBuilder, state: Residual, layer: number, context: BuildContext): Residual {
  const { hiddenSize, intermediateSize, rmsNormEps } = context.config;
  const name = `model.layers.${layer}`;
  const before = residualNorm(segment, state, `${name}.input_layernorm`, hiddenSize, rmsNormEps);
  const attended = { residual: before.residual, delta: attention(segment, before.normed, layer, context) };
  const after = residualNorm(segment, attended, `${name}.post_attention_layernorm`, hiddenSize, rmsNormEps);
  return { residual: after.residual, delta: swigluMlp(segment, after.normed, `${name}.mlp`, hiddenSize, intermediateSize) };
}

function geometry(config: ModelConfig): LayerGeometry[] {
  const layer: LayerGeometry = { kind: 'full', kvHeads: config.kvHeads, headDimK: config.headDim, headDimV: config.headDim };
  return Array.from({ length: config.layers }, () => layer);
}

function build(context: BuildContext): Blueprint {
  const { config } = context;
  const chain = new SegmentChain(context);
  let state = embed(chain.current, config.vocabSize, config.hiddenSize);
  for (let layer = 0; layer < config.layers; layer++) {
    if (context.cuts.has(layer)) state = chain.cut(state, layer, config.hiddenSize);
    chain.enter(layer);
    state = block(chain.current, state, layer, context);
  }
  writeLogits(chain.current, state, {
    vocabSize: config.vocabSize,
    hidden: config.hiddenSize,
    epsilon: config.rmsNormEps,
    tied: config.tieWordEmbeddings,
  });
  return { layers: geometry(config), segments: chain.finish() };
}

export const llama: Architecture = { name: 'llama', build };
