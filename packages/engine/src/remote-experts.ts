import type { Tensor } from '@causeway/ort';

/** Expert calls (one token, one expert) by the name of the shard that answered. */
export type ExpertCalls = ReadonlyMap<string, number>;

/** One layer's tokens on their way to experts elsewhere. N tokens: `batch` sequences of N / batch each. */
export interface ExpertRun {
  layer: number;
  batch: number;
  /** f32 [N, hidden]. */
  rows: Tensor;
  /** i64 [N, k], all different in a row. */
  ids: Tensor;
  /** f32 [N, k]. */
  weights: Tensor;
  /** f32 [N, hidden]: takes the weighted sums. */
  output: Tensor;
  signal: AbortSignal | undefined;
}

/** How one layer's experts elsewhere were asked, once. */
export interface ExpertLayer {
  layer: number;
  /** Times of `performance.now()`. */
  startedAt: number;
  endedAt: number;
  /** Tokens of all sequences. */
  tokens: number;
  /** Shards that answered. */
  shards: readonly string[];
  /** Of the slowest answer: milliseconds on the way, in the shard's line and in its run. */
  networkMs: number;
  queueMs: number;
  computeMs: number;
}

export interface ExpertAnswers {
  /** Calls of each sequence. */
  calls: readonly ExpertCalls[];
  layer: ExpertLayer;
}

export interface StartedExpertRun {
  /** `ids` and `weights` were read; `rows` rest until the end. */
  sent: Promise<void>;
  /**
   * The sums are in `output`. Rejects with ServiceError `unavailable/expert_unavailable` naming layer
   * and expert when nobody has one that a token needs. Whatever becomes of it, no memory of the run is used any more afterwards.
   */
  done: Promise<ExpertAnswers>;
}

/** Computes routed experts for an engine whose model has them elsewhere. One run at a time. */
export interface RemoteExperts {
  start(run: ExpertRun): StartedExpertRun;
}

/** Adds calls to those counted so far. */
export function addCalls(to: Map<string, number>, calls: ExpertCalls | undefined): void {
  for (const [shard, count] of calls ?? []) to.set(shard, (to.get(shard) ?? 0) + count);
}
