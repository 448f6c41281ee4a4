export { armFailpoints, failpoint, failpointHits } from './failpoint.ts';
export type { FailpointOptions } from './failpoint.ts';
export { FAILPOINT_ACTIONS, FAILPOINTS, parseFailpoints } from './spec.ts';
export type { ArmedFailpoint, FailpointAction, FailpointName } from './spec.ts';
