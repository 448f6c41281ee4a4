import type { TokenConstraints } from '@causeway/grammar';
import type { PagePool } from '@causeway/kv';
import type { LoadedModel } from '@causeway/models';
import type { Runtime, SessionThreads } from '@causeway/ort';
import type { RemoteExperts } from './remote-experts.ts';
import type { EngineModelInfo } from './types.ts';

/** Called synchronously by the engine's loop; must be quick and must not throw. */
export interface EngineHooks {
  /** A run of the decode graph: sequences it served, milliseconds of the whole step (run, sampling, packing). */
  onStep?(step: { batch: number; ms: number }): void;
  /** A prefill chunk: its tokens, milliseconds of run and packing. */
  onPrefillChunk?(chunk: { tokens: number; ms: number }): void;
  /** A sequence gave its memory up to older ones; it resumes later. */
  onPreemption?(): void;
  /** The thread that holds answers to formats broke or hung; another one takes its place. */
  onConstraintThreadLost?(cause: unknown): void;
  /** A sequence failed for a reason of the engine's own (a runtime error), not by its caller. */
  onError?(error: unknown): void;
}

export interface EngineDebug {
  /** Fills every slot with NaN before use, so that reading anything not filled from pages shows. */
  fillNaN?: boolean;
  /** After each step and chunk: completed blocks of slots must equal decode(pages) bit for bit, else the step fails. */
  checkPages?: boolean;
  /** The time of every operator of every run goes to `<profile>_<date>.json`, one file per segment, when the engine ends. */
  profile?: string;
}

export interface EngineOptions {
  /** Runtime, model and pool stay the caller's: dispose of them after the engine. */
  runtime: Runtime;
  /** Its weights are released once sessions are made. */
  model: LoadedModel;
  info: EngineModelInfo;
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
  /**
   * The model's runs have threads of their own that spin for more work before they sleep: a decode step is a row of operators of some
   * 50 µs, and waking a thread takes as long. Only for a model of one segment; others run one after another in the Runtime's threads.
   */
  threads?: SessionThreads | undefined;
  /**
   * ONNX Runtime's execution provider that computes; slots lie in its device's memory. Default: the CPU's. Its graphs may give a row
   * other bits in another batch. What it has no operator for runs on the CPU.
   */
  provider?: string | undefined;
  hooks?: EngineHooks;
  /** Holds answers to formats; stays the caller's. Without it generations with a constraint are refused. */
  constraints?: Pick<TokenConstraints, 'open'>;
  debug?: EngineDebug;
}
