import { fail } from '@causeway/errors';
import type { KvWireForm } from '@causeway/kv';
import { type Checkpoint, withHuggingFaceNames } from '@causeway/model-files';
import type { Tensor } from '@causeway/ort';
import { findArchitecture } from './registry.ts';
import type { SegmentDraft } from './segment-builder.ts';
import type { LoadedModel, Precision, Segment } from './types.ts';
import { WeightLibrary } from './weight-library.ts';

/** How far loading is. Bytes count converted weights only: mapped ones cost nothing. */
export interface LoadProgress {
  convertedBytes: number;
  totalBytes: number;
}

export interface LoadOptions {
  /** Stays the caller's; keep it open until `LoadedModel.releaseWeights` was called: mapped weights are read in place. */
  checkpoint: Checkpoint;
  precision: Precision;
  /** Rounds new keys and values to what pages in this form hold, before attention; default: not at all. */
  kvRounding?: KvWireForm | undefined;
  /** A new decoder segment starts at these layers; others start where experts end. Default none. */
  cuts?: readonly number[];
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
}

function checkCuts(cuts: readonly number[], layers: number): ReadonlySet<number> {
  for (const cut of cuts) {
    if (!Number.isInteger(cut) || cut < 1 || cut >= layers) {
      fail('invalid_argument', 'bad_config', `a segment cannot start at layer ${cut}: cuts are layers from 1 to ${layers - 1}`);
    }
  }
  return new Set(cuts);
}

function finish(draft: SegmentDraft, library: WeightLibrary): Segment {
  const { weights, ...rest } = draft;
  return { ...rest, initializers: new Map<string, Tensor>(weights.map((ref) => [ref.name, library.tensor(ref)])) };
}

/**
 * Builds the graph segments of a checkpoint and converts its weights in worker threads.
 * Throws ServiceError `unknown_architecture`, `missing_tensor`, `wrong_shape`, `unsupported_format`, `malformed_file`,
 * `bad_config` (cuts) or `cancelled`; nothing stays allocated then.
 */
export async function loadModel(options: LoadOptions): Promise<LoadedModel> {
  const { checkpoint, precision, kvRounding, onProgress, signal } = options;
  const architecture = findArchitecture(checkpoint);
  const { config } = checkpoint;
  const cuts = checkCuts(options.cuts ?? [], config.layers);
  const gguf = checkpoint.format === 'gguf' ? architecture.gguf : undefined;
  const library = new WeightLibrary(gguf === undefined ? checkpoint : withHuggingFaceNames(checkpoint, gguf.blocks));
  try {
    const blueprint = architecture.build({ config, weights: library, precision, cuts, format: checkpoint.format, kvRounding });
    await library.convert({
      signal,
      onProgress: (convertedBytes, totalBytes) => onProgress?.({ convertedBytes, totalBytes }),
    });
    const release = (): void => library[Symbol.dispose]();
    return {
      architecture: architecture.name,
      kvRounding,
      layers: blueprint.layers,
      vocabSize: config.vocabSize,
      contextLength: config.contextLength,
      hiddenSize: config.hiddenSize,
      segments: blueprint.segments.map((draft) => finish(draft, library)),
      weightBytes: library.bytes,
      releaseWeights: release,
      [Symbol.dispose]: release,
    };
  } catch (error) {
    library[Symbol.dispose]();
    throw error;
  }
}
