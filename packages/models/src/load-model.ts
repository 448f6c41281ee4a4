import type { Checkpoint } from '@causeway/model-files';
import type { LoadedModel, Precision } from './types.ts';

/** How far loading is. Bytes count converted weights only: mapped ones cost nothing. */
export interface LoadProgress {
  convertedBytes: number;
  totalBytes: number;
}

export interface LoadOptions {
  /** Stays the caller's; keep it open until `LoadedModel.releaseWeights` was called: mapped weights are read in place. */
  checkpoint: Checkpoint;
  precision: Precision;
  /** A new decoder segment starts at these layers; others start where experts end. Default none. */
  cuts?: readonly number[];
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
}

/**
 * Builds the graph segments of a checkpoint and converts its weights in worker threads.
 * Throws ServiceError `unknown_architecture`, `missing_tensor`, `wrong_shape`, `unsupported_format` or `cancelled`.
 */
export declare function loadModel(options: LoadOptions): Promise<LoadedModel>;
