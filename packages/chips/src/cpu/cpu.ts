import type { ChipFamily } from '../chip-family.ts';

/** ONNX Runtime's CPU provider: computes in f32, pages token-major in f32, f16 or bf16. */
export const cpu: ChipFamily = {
  name: 'cpu',
  provider: 'CPUExecutionProvider',
  dtypes: ['f32', 'bf16', 'f16'],
  blockTokens: [16, 32, 64, 128],
  layouts: ['NHD'],
};
