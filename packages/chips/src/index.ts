export { CHIP_NAMES, chipEmulated, chipFamily, chipStorage } from './chip-family.ts';
export type { ChipFamily, StorageChoice } from './chip-family.ts';
