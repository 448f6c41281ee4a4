/** For measurements and tests of other packages. */
export { kvRatio } from './codec-ratio.ts';
export { syntheticKv } from './synthetic-kv.ts';
export { decodeRuns, encodeRuns } from './part-job.ts';
export { type NumberOf, plainPages, roundedBy } from './testing/plain-pages.ts';
