export { loadModel } from './load-model.ts';
export type { LoadOptions, LoadProgress } from './load-model.ts';
export { findArchitecture, KNOWN_ARCHITECTURES } from './registry.ts';
export { cacheShape } from './cache-shape.ts';
export type { LoadedModel, Precision, Segment, SegmentKind, SymbolicDim, ValueSpec } from './types.ts';
