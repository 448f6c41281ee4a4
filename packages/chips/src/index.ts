export { CHIP_NAMES, chipEmulated, chipFamily, chipStorage } from './chip-family.ts';
export type { ChipFamily } from './chip-family.ts';
