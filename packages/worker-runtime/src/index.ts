export { advertisedHost, checkReachable } from './advertise.ts';
export { choicesFromProto, firstTokenOptions, firstTokensOf } from './choices.ts';
export type { FirstOf, WorkerChoice } from './choices.ts';
export { computeOrderFromProto } from './compute-order.ts';
export { workerConfig } from './config.ts';
export type { WorkerConfig } from './config.ts';
export {
  callsToProto,
  finishReasonToProto,
  generationFromProto,
  statsToProto,
  tokenFromProto,
  tokenToProto,
} from './convert.ts';
export { planKvMemory, slotTokenBytes } from './kv-budget.ts';
export { loadEngine } from './load-engine.ts';
export type { EngineRecipe, LoadedEngine } from './load-engine.ts';
export { PromptScoreCollector } from './prompt-scores.ts';
export { readKv } from './read-kv.ts';
export type { DumpedKv } from './read-kv.ts';
export { requestScope } from './request-scope.ts';
export type { RequestScope } from './request-scope.ts';
export { chunkTimes, layerSpans, reservePages } from './trace-steps.ts';
export type { ChunkTimes } from './trace-steps.ts';
export { runWorker } from './run-worker.ts';
export { assertServes } from './worker.ts';
export type { Worker, WorkerRole } from './worker.ts';
