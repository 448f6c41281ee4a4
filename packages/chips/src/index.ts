export { CHIP_NAMES, chipFamily, chipStorage } from './chip-family.ts';
export type { ChipFamily } from './chip-family.ts';
