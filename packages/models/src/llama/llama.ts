/** Llama: pre-norm blocks of grouped-query attention with rotary positions and a SwiGLU MLP. */
import type { Architecture, Blueprint, BuildContext } from '../architecture.ts';
import { decoder, denseMlp } from '../decoder.ts';
import { ATTENTION_BLOCKS, MLP_BLOCKS } from '../gguf-form.ts';
import { fullGeometry, refuseExperts, selfAttention } from '../self-attention.ts';

function build(context: BuildContext): Blueprint {
  refuseExperts(context.config);
  // llama.cpp's converter permutes the rows of Q and K so that RoPE turns neighbouring pairs (convert_hf_to_gguf.py, `permute`).
  const attention = selfAttention(context, { interleaved: context.format === 'gguf' });
  return { layers: fullGeometry(context.config), segments: decoder(context, { attention, mlp: denseMlp(context) }) };
}

export const llama: Architecture = {
  name: 'llama',
  gguf: { architecture: 'llama', blocks: { ...ATTENTION_BLOCKS, ...MLP_BLOCKS } },
  build,
};
