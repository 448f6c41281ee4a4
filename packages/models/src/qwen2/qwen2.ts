/** Qwen2 and 2.5: a Llama whose Q, K and V have biases. */
import type { Architecture, Blueprint, BuildContext } from '../architecture.ts';
import { decoder, denseMlp } from '../decoder.ts';
import { ATTENTION_BLOCKS, MLP_BLOCKS } from '../gguf-form.ts';
import { fullGeometry, refuseExperts, refuseSlidingWindow, selfAttention } from '../self-attention.ts';

function build(context: BuildContext): Blueprint {
  const { config } = context;
  refuseExperts(config);
  refuseSlidingWindow(config);
  return {
    layers: fullGeometry(config),
    segments: decoder(context, { attention: selfAttention(context, { biases: true }), mlp: denseMlp(context) }),
  };
}

export const qwen2: Architecture = {
  name: 'qwen2',
  gguf: { architecture: 'qwen2', blocks: { ...ATTENTION_BLOCKS, ...MLP_BLOCKS } },
  build,
};
