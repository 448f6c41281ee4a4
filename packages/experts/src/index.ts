export { ExpertClient } from './client/expert-client.ts';
export type { ExpertClientOptions, LayerTimes } from './client/expert-client.ts';
export { placementCopies } from './placement/placement.ts';
export { expertFingerprint } from './fingerprint.ts';
export { ShardNode } from './shard/shard-node.ts';
export type { ShardNodeOptions } from './shard/shard-node.ts';
export { ROW_TYPES } from './wire/frame.ts';
export type { RowType } from './wire/frame.ts';
export { ExpertsBytesDefinition } from './wire/service.ts';
