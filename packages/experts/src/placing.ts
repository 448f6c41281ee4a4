/** What planning and watching a placement needs: nothing that loads ONNX Runtime. */
export { ExpertView } from './placement/expert-view.ts';
export type { ExpertSnapshot } from './placement/expert-view.ts';
export { readLoads } from './placement/load-report.ts';
export { planPlacement, shardLoads } from './placement/plan.ts';
export type { ExpertLoads, PlannedShard, PlanOptions } from './placement/plan.ts';
export { checkPlacement, expertsOf, homesOf, placementCopies } from './placement/placement.ts';
export type { Placement } from './placement/placement.ts';
export type { ShardRecord } from './placement/shard-record.ts';
