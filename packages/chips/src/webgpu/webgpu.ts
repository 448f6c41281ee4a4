import { loadVulkan } from '@causeway/ort';
import type { ChipFamily } from '../chip-family.ts';

/**
 * Any GPU with a Vulkan driver, through ONNX Runtime's WebGPU provider; without one, SwiftShader, which computes on the CPU. Slots are
 * f32 in the device's memory. Pages in 16 bits: new keys and values are rounded in the graph, by nodes that run on the CPU where the
 * provider has none for the type (bf16).
 */
export const webgpu: ChipFamily = {
  name: 'webgpu',
  provider: 'WebGpuExecutionProvider',
  install: 'onnxruntime-node on Linux x64, which has it',
  dtypes: ['f32', 'bf16', 'f16'],
  layouts: ['NHD', 'HND'],
  blockTokens: [16, 32, 64, 128],
  prepare: ({ vulkanDir }) => loadVulkan({ folder: vulkanDir }),
};
