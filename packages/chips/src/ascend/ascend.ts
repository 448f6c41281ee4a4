import type { ChipFamily } from '../chip-family.ts';

/**
 * Huawei Ascend as vllm-ascend keeps KV there: blocks of 128 tokens, ND (here NHD) or NZ, whose columns are lines of 32 bytes; MLA's
 * latent and rotary part in two tensors, of which int8 holds the latent only and the rotary part stays bf16.
 */
export const ascend: ChipFamily = {
  name: 'ascend',
  provider: 'CANNExecutionProvider',
  install: "ONNX Runtime's CANN build and the CANN toolkit, or the vendor's plug-in provider library",
  dtypes: ['bf16', 'f16', 'int8'],
  layouts: ['NHD', 'NZ'],
  blockTokens: [128],
  splitLatent: true,
};
