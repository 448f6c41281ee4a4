export { CHIP_NAMES, chipEmulated, chipFamily, chipProvider, chipStorage } from './chip-family.ts';
export type { ChipFamily, StorageChoice } from './chip-family.ts';
export { findVulkan, type VulkanPlace } from './webgpu/find-vulkan.ts';
