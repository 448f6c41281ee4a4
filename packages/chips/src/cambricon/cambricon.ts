import type { ChipFamily } from '../chip-family.ts';

/**
 * Cambricon MLU as vllm-mlu keeps KV there: [blocks, kvHeads, block, headDim] (HND) in blocks of 16 to 64 tokens; int8 with one f32
 * scale for each token and head, [blocks, kvHeads, block].
 */
export const cambricon: ChipFamily = {
  name: 'cambricon',
  provider: 'MLUExecutionProvider',
  install: "the vendor's plug-in provider library for ONNX Runtime",
  dtypes: ['bf16', 'f16', 'int8'],
  layouts: ['HND'],
  blockTokens: [16, 32, 64],
};
