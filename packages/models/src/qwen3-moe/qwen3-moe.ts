/** Qwen3-MoE: Qwen3's attention, and experts chosen by softmax, none of them shared. */
import { fail } from '@causeway/errors';
import type { Architecture, Blueprint, BuildContext } from '../architecture.ts';
import { decoder, type DecoderBlock, denseMlp } from '../decoder.ts';
import { ATTENTION_BLOCKS, EXPERT_BLOCKS, HEAD_NORM_BLOCKS, MLP_BLOCKS } from '../gguf-form.ts';
import { mixture } from '../moe-mixture.ts';
import { softmaxRouter } from '../moe-router.ts';
import { fullGeometry, refuseSlidingWindow, selfAttention } from '../self-attention.ts';

function mlp(context: BuildContext): DecoderBlock['mlp'] {
  const { config, format } = context;
  const { moe, hiddenSize: hidden } = config;
  const dense = denseMlp(context);
  if (moe === undefined) return fail('invalid_argument', 'malformed_file', 'a qwen3_moe config must have experts');
  const { scoring = 'softmax', experts, expertsPerToken } = moe;
  if (scoring !== 'softmax' || moe.groups !== 1 || moe.sharedExperts !== 0) {
    fail(
      'unimplemented',
      'unsupported_format',
      "qwen3_moe scores experts by softmax, in one group and with none shared: this isn't so",
    );
  }
  // A config that is silent means no (configuration_qwen3_moe.py); llama.cpp, whose files never say, always does.
  const normalize = moe.normalizeTopK ?? format === 'gguf';
  return (chain, x, residual, layer) => {
    if (layer < moe.firstDenseLayers) return dense(chain, x, residual, layer);
    const name = `model.layers.${layer}.mlp.gate`;
    return mixture(chain, x, residual, {
      layer,
      hidden,
      experts,
      expertsPerToken,
      inner: moe.expertInner,
      sharedInner: 0,
      route: (segment, rows) =>
        softmaxRouter(segment, rows, { name, hidden, experts, expertsPerToken, normalize, scale: moe.routedScale }),
    });
  };
}

function build(context: BuildContext): Blueprint {
  const { config } = context;
  refuseSlidingWindow(config);
  return {
    layers: fullGeometry(config),
    segments: decoder(context, { attention: selfAttention(context, { headNorms: true }), mlp: mlp(context) }),
  };
}

export const qwen3Moe: Architecture = {
  name: 'qwen3_moe',
  gguf: { architecture: 'qwen3moe', blocks: { ...ATTENTION_BLOCKS, ...HEAD_NORM_BLOCKS, ...MLP_BLOCKS, ...EXPERT_BLOCKS } },
  build,
};
