export { decidePlacement, DEFAULT_LOCAL_PREFILL_TOKENS } from './placement/decide-placement.ts';
export type { PlacementDecision, PlacementMode, PlacementOptions } from './placement/decide-placement.ts';
export { explainRejections, planAttempt } from './placement/plan-attempt.ts';
export type { PlanDecision } from './placement/plan-attempt.ts';
export { fingerprintFilter } from './policies/fingerprint/fingerprint.ts';
export { fitsContextFilter } from './policies/fits-context/fits-context.ts';
export { DECODE_WAITING_FACTOR, decodeHasRoom, PREFILL_PLACES, prefillHasRoom } from './policies/has-room/has-room.ts';
export { leastOutstandingDecode, leastOutstandingPrefill } from './policies/least-outstanding-work/least-outstanding-work.ts';
export { decodeLoad, decodeOccupancy, prefillLoad, prefillSeconds } from './policies/load/load.ts';
export { modelFilter } from './policies/model/model.ts';
export { notDrainingFilter } from './policies/not-draining/not-draining.ts';
export { representationFilter } from './policies/representation/representation.ts';
export { choose, highestScore } from './policy.ts';
export type { Choice, Filter, Picker, Policy, Rejection, ScoredWorker, Scorer } from './policy.ts';
export { snapshotOf } from './snapshot.ts';
export type { Need, Snapshot, WorkerRole, WorkerState } from './snapshot.ts';
export {
  balancedSplit,
  balancedThreshold,
  decodeThroughput,
  farThroughput,
  nearPrefillThroughput,
  splitAt,
  totalThroughput,
} from './throughput/throughput-model.ts';
export type { LengthSample, ThroughputInputs, ThroughputSplit } from './throughput/throughput-model.ts';
