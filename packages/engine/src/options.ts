import type { PagePool } from '@causeway/kv';
import type { LoadedModel } from '@causeway/models';
import type { Runtime } from '@causeway/ort';
import type { RemoteExperts } from './remote-experts.ts';
import type { ModelInfo } from './types.ts';

/** Called synchronously by the engine's loop; must be quick and must not throw. */
export interface EngineHooks {
  /** A run of the decode graph: sequences it served, milliseconds of the whole step (run, sampling, packing). */
  onStep?(step: { batch: number; ms: number }): void;
  /** A prefill chunk: its tokens, milliseconds of run and packing. */
  onPrefillChunk?(chunk: { tokens: number; ms: number }): void;
  /** A sequence gave its memory up to older ones; it resumes later. */
  onPreemption?(): void;
  /** A sequence failed for a reason of the engine's own (a runtime error), not by its caller. */
  onError?(error: unknown): void;
}

export interface EngineDebug {
  /** Fills every slot with NaN before use, so that reading anything not filled from pages shows. */
  fillNaN?: boolean;
  /** After each step and chunk: completed blocks of slots must equal decode(pages) bit for bit, else the step fails. */
  checkPages?: boolean;
}

export interface EngineOptions {
  /** Runtime, model and pool stay the caller's: dispose of them after the engine. */
  runtime: Runtime;
  /** Its weights are released once sessions are made. */
  model: LoadedModel;
  info: ModelInfo;
  /** Pages of `info.descriptor`. */
  pool: PagePool;
  /** Sequences decoded together at most. */
  maxSequences: number;
  /** Tokens of prompt and answer at most; lowered to the model's context and to what the pool holds. */
  maxContext: number;
  /** Prompt tokens per prefill run at most, at least 4. */
  chunkTokens: number;
  /** Groups of layers whose KV prefill packs and hands over on its own; default 1. Cut the model's segments where they begin. */
  layerGroups?: number;
  /** Calls of `reserve` that may wait; default 256. */
  maxWaiting?: number;
  /** Answer tokens to reserve before any answer was seen; default 128. */
  initialGrowth?: number;
  /** For a model loaded without its routed experts; stays the caller's. */
  experts?: RemoteExperts | undefined;
  hooks?: EngineHooks;
  debug?: EngineDebug;
}
