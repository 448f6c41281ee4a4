export { chunkEnds, LEAST_CHUNK_TOKENS, usedChunkTokens } from './chunks.ts';
export { createEngine } from './create-engine.ts';
export { addCalls } from './remote-experts.ts';
export type { ExpertAnswers, ExpertCalls, ExpertLayer, ExpertRun, RemoteExperts, StartedExpertRun } from './remote-experts.ts';
export type { EngineDebug, EngineHooks, EngineOptions } from './options.ts';
export type {
  ChoicesPrefillResult,
  Engine,
  EngineStats,
  FinishReason,
  GeneratedToken,
  Generation,
  LogitBias,
  LogitsOptions,
  EngineModelInfo,
  ModelInfo,
  PrefillListeners,
  PrefillResult,
  SampledToken,
  Sampling,
  ScoredToken,
  SequencePages,
  TopLogprob,
} from './types.ts';
