import type { ChipFamily } from '../chip-family.ts';

/**
 * NVIDIA GPUs as vLLM keeps KV there (FlashAttention, FlashInfer): per layer K and V [blocks, block, kvHeads, headDim] in NHD, heads
 * before tokens in HND, which FlashInfer prefers with fp8; MLA's latent and rotary part in one tensor. fp8 is e4m3 with one scale.
 */
export const nvidia: ChipFamily = {
  name: 'nvidia',
  provider: 'CUDAExecutionProvider',
  install: "ONNX Runtime's GPU build (npm: onnxruntime-node with CUDA 12 and cuDNN 9 installed)",
  dtypes: ['bf16', 'f16', 'f8e4m3'],
  layouts: ['NHD', 'HND'],
  blockTokens: [16, 32, 64],
};
