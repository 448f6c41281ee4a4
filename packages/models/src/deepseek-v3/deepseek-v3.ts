/**
 * DeepSeek-V3: latent attention, dense SwiGLU in the first layers, then a mixture of experts with shared experts. GGUF has it under the
 * name of DeepSeek-V2, whose small models choose experts plainly by softmax.
 */
import { fail } from '@causeway/errors';
import type { LayerGeometry } from '@causeway/kv';
import type { ModelConfig } from '@causeway/model-files';
import type { Value } from '@causeway/onnx-graph';
import type { Architecture, Blueprint, BuildContext } from '../architecture.ts';
import { latentAttention } from '../attention-mla.ts';
import { decoder, type DecoderBlock, denseMlp } from '../decoder.ts';
import { ATTENTION_BLOCKS, EXPERT_BLOCKS, LATENT_BLOCKS, MLP_BLOCKS, SHARED_EXPERT_BLOCKS } from '../gguf-form.ts';
import { mixture } from '../moe-mixture.ts';
import { groupedSigmoidRouter, softmaxRouter } from '../moe-router.ts';
import { attentionScaleFactor, rotaryTables } from '../rope.ts';
import type { SegmentBuilder } from '../segment-builder.ts';

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

function mlp(context: BuildContext): DecoderBlock['mlp'] {
  const { config } = context;
  const { moe, hiddenSize: hidden } = config;
  const dense = denseMlp(context);
  if (moe === undefined) return dense;
  const { plain, normalize } = routing(context, moe);
  const { experts, expertsPerToken, expertInner: inner, groups, groupsPerToken, routedScale: scale } = moe;
  return (chain, x, residual, layer) => {
    if (layer < moe.firstDenseLayers) return dense(chain, x, residual, layer);
    const name = `model.layers.${layer}.mlp.gate`;
    const router = { name, hidden, experts, expertsPerToken, normalize, scale };
    return mixture(chain, x, residual, {
      layer,
      hidden,
      experts,
      expertsPerToken,
      inner,
      sharedInner: moe.sharedExperts * inner,
      route: (segment, rows) =>
        plain ? softmaxRouter(segment, rows, router) : groupedSigmoidRouter(segment, rows, { ...router, groups, groupsPerToken }),
    });
  };
}

/**
 * How experts are chosen: plainly by softmax, or as DeepSeek-V3 does. A config that is silent means the defaults of
 * configuration_deepseek_v3.py; a silent GGUF file what llama.cpp takes it to mean (llama-model.cpp, LLM_ARCH_DEEPSEEK2).
 */
function routing({ format, weights }: BuildContext, moe: Moe): { plain: boolean; normalize: boolean } {
  const gguf = format === 'gguf';
  const biased = weights.has(`model.layers.${moe.firstDenseLayers}.mlp.gate.e_score_correction_bias`);
  const scoring = moe.scoring ?? (gguf && !biased ? 'softmax' : 'sigmoid');
  const normalize = moe.normalizeTopK ?? !gguf;
  if (gguf && scoring === 'softmax' && !biased && moe.groups === 1) return { plain: true, normalize };
  checkMixture(moe, scoring);
  return { plain: false, normalize };
}

function checkMixture(moe: Moe, scoring: string): void {
  const perGroup = moe.experts / moe.groups;
  if (scoring !== 'sigmoid') {
    fail('unimplemented', 'unsupported_format', `routing by ${scoring} is not deepseek_v3's: it scores experts by sigmoid`);
  }
  if (moe.correctionBias === false) {
    fail('unimplemented', 'unsupported_format', "routing without a correction bias is not deepseek_v3's (topk_method noaux_tc)");
  }
  if (!Number.isInteger(perGroup) || moe.groupsPerToken > moe.groups || moe.expertsPerToken > moe.groupsPerToken * perGroup) {
    const choice = `${moe.expertsPerToken} of ${moe.experts} experts in ${moe.groupsPerToken} of ${moe.groups} groups`;
    fail('invalid_argument', 'malformed_file', `the config asks for ${choice}, which cannot be chosen`);
  }
}

function build(context: BuildContext): Blueprint {
  const { config } = context;
  const { mla } = config;
  const block = mlp(context);
  if (mla === undefined)
    fail('invalid_argument', 'malformed_file', 'a deepseek_v3 config must have kv_lora_rank and its head sizes');
  const geometry: LayerGeometry = { kind: 'latent', rank: mla.kvLoraRank, ropeDim: mla.qkRopeHeadDim };
  return {
    layers: Array.from({ length: config.layers }, () => geometry),
    segments: decoder(context, {
      attention: (segment, x, layer) => attention(segment, x, layer, context, mla),
      mlp: block,
    }),
  };
}

export const deepseekV3: Architecture = {
  name: 'deepseek_v3',
  // Kimi K2 is a DeepSeek-V3 of other sizes.
  aliases: ['kimi_k2'],
  gguf: {
    architecture: 'deepseek2',
    blocks: {
      ...ATTENTION_BLOCKS,
      'exp_probs_b.bias': 'mlp.gate.e_score_correction_bias',
      ...LATENT_BLOCKS,
      ...MLP_BLOCKS,
      ...EXPERT_BLOCKS,
      ...SHARED_EXPERT_BLOCKS,
    },
  },
  build,
};
