/** What decoders have in common: pre-norm blocks of attention and MLP over a hidden state, between embedding and logits. */
import type { Value } from '@causeway/onnx-graph';
import type { BuildContext } from './architecture.ts';
import { embed, writeLogits } from './embedding.ts';
import { type Residual, residualNorm } from './rms-norm.ts';
import type { SegmentBuilder, SegmentDraft } from './segment-builder.ts';
import { SegmentChain } from './segment-chain.ts';
import { swigluMlp } from './swiglu.ts';

/** What is an architecture's own in a block; x is the normalised hidden state [N, hidden]. */
export interface DecoderBlock {
  attention(segment: SegmentBuilder, x: Value, layer: number): Value;
  /** The MLP's answer as a Residual; it may end the segment. */
  mlp(chain: SegmentChain, x: Value, residual: Value, layer: number): Residual;
}

/** A dense SwiGLU MLP, `model.layers.<layer>.mlp`. */
export function denseMlp({ config }: BuildContext): DecoderBlock['mlp'] {
  return (chain, x, residual, layer) => {
    const name = `model.layers.${layer}.mlp`;
    return { residual, delta: swigluMlp(chain.current, x, name, config.hiddenSize, config.intermediateSize) };
  };
}

/** All segments of a decoder, in order. */
export function decoder(context: BuildContext, block: DecoderBlock): readonly SegmentDraft[] {
  const { config, cuts, cutEnds } = context;
  const { hiddenSize, rmsNormEps } = config;
  const chain = new SegmentChain(context);
  const ends = { vocabSize: config.vocabSize, hidden: hiddenSize, tied: config.tieWordEmbeddings };
  let state = embed(chain.current, ends);
  if (cutEnds) state = chain.cut(state, 0, hiddenSize);
  for (let layer = 0; layer < config.layers; layer++) {
    const name = `model.layers.${layer}`;
    // After a mixture of experts a new segment has just begun.
    if (cuts.has(layer) && !chain.empty) state = chain.cut(state, layer, hiddenSize);
    chain.enter(layer);
    const segment = chain.current;
    const before = residualNorm(segment, state, `${name}.input_layernorm`, hiddenSize, rmsNormEps);
    const attended = { residual: before.residual, delta: block.attention(segment, before.normed, layer) };
    const after = residualNorm(segment, attended, `${name}.post_attention_layernorm`, hiddenSize, rmsNormEps);
    state = block.mlp(chain, after.normed, after.residual, layer);
  }
  if (cutEnds && !chain.empty) state = chain.cut(state, config.layers, hiddenSize);
  writeLogits(chain.current, state, { ...ends, epsilon: rmsNormEps });
  return chain.finish();
}
