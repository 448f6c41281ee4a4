/** For measurements and tests of other packages. */
export { kvRatio } from './codec-ratio.ts';
export { syntheticKv } from './synthetic-kv.ts';
