/** Qwen3, dense: a Llama that normalises each head of Q and K before it is rotated. */
import type { Architecture, Blueprint, BuildContext } from '../architecture.ts';
import { decoder, denseMlp } from '../decoder.ts';
import { ATTENTION_BLOCKS, HEAD_NORM_BLOCKS, MLP_BLOCKS } from '../gguf-form.ts';
import { fullGeometry, refuseExperts, refuseSlidingWindow, selfAttention } from '../self-attention.ts';

function build(context: BuildContext): Blueprint {
  const { config } = context;
  refuseExperts(config);
  refuseSlidingWindow(config);
  return {
    layers: fullGeometry(config),
    segments: decoder(context, { attention: selfAttention(context, { headNorms: true }), mlp: denseMlp(context) }),
  };
}

export const qwen3: Architecture = {
  name: 'qwen3',
  gguf: { architecture: 'qwen3', blocks: { ...ATTENTION_BLOCKS, ...HEAD_NORM_BLOCKS, ...MLP_BLOCKS } },
  build,
};
