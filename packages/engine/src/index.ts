export { chunkEnds, LEAST_CHUNK_TOKENS, usedChunkTokens } from './chunks.ts';
export { createEngine } from './create-engine.ts';
export { addCalls } from './remote-experts.ts';
export type { ExpertCalls, ExpertRun, RemoteExperts, StartedExpertRun } from './remote-experts.ts';
export type { EngineDebug, EngineHooks, EngineOptions } from './options.ts';
export type {
  Engine,
  EngineStats,
  FinishReason,
  GeneratedToken,
  Generation,
  LogitBias,
  LogitsOptions,
  ModelInfo,
  PrefillResult,
  SampledToken,
  Sampling,
  SequencePages,
  TopLogprob,
} from './types.ts';
