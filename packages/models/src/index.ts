export { loadModel } from './load-model.ts';
export type { LoadOptions, LoadProgress } from './load-model.ts';
export { findArchitecture, KNOWN_ARCHITECTURES } from './registry.ts';
export { cacheShape } from './cache-shape.ts';
export type { ExpertsPlace, LoadedModel, Precision, Segment, SegmentKind, SymbolicDim, ValueSpec } from './types.ts';
export { combineGraph } from './combine-graph.ts';
export { expertShape, loadExpertGroup, namedTensors } from './expert-group.ts';
export type { ExpertGroup, ExpertShape } from './expert-group.ts';
export { int8Parts, sumOfParts } from './wide-products.ts';
