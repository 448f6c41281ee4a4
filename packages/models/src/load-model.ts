import { fail } from '@causeway/errors';
import type { KvWireForm } from '@causeway/kv';
import type { Checkpoint } from '@causeway/model-files';
import type { Runtime } from '@causeway/ort';
import { loneRowsAlike } from './lone-rows.ts';
import { namedTensors } from './named-tensors.ts';
import { findArchitecture } from './registry.ts';
import type { SegmentDraft, SegmentKernels } from './segment-builder.ts';
import type { ExpertsPlace, LoadedModel, Precision, Segment } from './types.ts';
import { WeightLibrary } from './weight-library.ts';
import { wideProductsOf } from './wide-products.ts';

/** How far loading is. Bytes count converted weights only: mapped ones cost nothing. */
export interface LoadProgress {
  convertedBytes: number;
  totalBytes: number;
}

export interface LoadOptions {
  /** Stays the caller's; keep it open until `LoadedModel.releaseWeights` was called: mapped weights are read in place. */
  checkpoint: Checkpoint;
  precision: Precision;
  /** Default `local`. */
  experts?: ExpertsPlace;
  /** Rounds new keys and values to what pages in this form hold, before attention; default: not at all. */
  kvRounding?: KvWireForm | undefined;
  /** Where the model will run: its kernels are tried, and spare work where they can. Default: as if the least of them were there. */
  runtime?: Runtime;
  /** What computes is no CPU: see LoneRows. Default false. */
  onDevice?: boolean;
  /** A new decoder segment starts at these layers; others start where experts end, and where a segment would have too many weights. */
  cuts?: readonly number[];
  /** Bytes of the files that a segment may have before it is cut again; default 128 MiB. */
  segmentBytes?: number;
  /** The router of each layer with experts is a segment `gate.LAYER`, so that it can be timed. Default false: it costs a run more. */
  gatesApart?: boolean;
  /** Called as segments' weights are made. */
  onProgress?: (progress: LoadProgress) => void;
  /** Ends the making of weights. */
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

/** Tries only what the graphs will use. */
async function kernelsOf({ onDevice, runtime, precision, checkpoint }: LoadOptions): Promise<SegmentKernels> {
  if (onDevice === true) return { loneRows: 'free' };
  if (runtime === undefined) return {};
  if (precision === 'fast') return { loneRows: (await loneRowsAlike(runtime)) ? 'alike' : 'differ' };
  return { wideProducts: await wideProductsOf(checkpoint, runtime) };
}

/** Weights of a segment are in memory up to three times while ONNX Runtime packs them. */
const SEGMENT_BYTES = 128 * 1024 * 1024;
const MOST_CUTS = 15;

/** Layers at which large checkpoints are cut, into segments of about the same size; none where it is small enough whole. */
function cutsForMemory({ tensors, config: { layers } }: Checkpoint, segmentBytes: number): readonly number[] {
  const bytes = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  if (bytes <= segmentBytes) return [];
  const segments = Math.min(MOST_CUTS + 1, layers, Math.ceil(bytes / segmentBytes));
  return Array.from({ length: segments - 1 }, (_, i) => Math.round(((i + 1) * layers) / segments));
}

function finish(
  { weights: refs, ...draft }: SegmentDraft,
  library: WeightLibrary,
  users: Map<string, number>,
  options: Parameters<WeightLibrary['make']>[1],
): Segment {
  let released = false;
  return {
    ...draft,
    weights: async () => {
      await library.make(refs, options);
      return new Map(refs.map((ref) => [ref.name, library.tensor(ref)]));
    },
    releaseWeights: () => {
      if (released) return;
      released = true;
      for (const { name } of refs) users.set(name, (users.get(name) ?? 1) - 1);
      library.free(refs.filter(({ name }) => users.get(name) === 0));
    },
  };
}

/**
 * Builds the graph segments of a checkpoint. Their weights are made in worker threads, a segment's when they are asked for.
 * Throws ServiceError `unknown_architecture`, `missing_tensor`, `wrong_shape`, `unsupported_format`, `malformed_file`,
 * or `bad_config` (cuts); nothing stays allocated then.
 */
export async function loadModel(options: LoadOptions): Promise<LoadedModel> {
  const { checkpoint, precision, kvRounding, onProgress, signal, experts = 'local' } = options;
  const architecture = findArchitecture(checkpoint);
  const { config } = checkpoint;
  if (experts === 'remote' && config.moe === undefined)
    fail('invalid_argument', 'bad_config', `${checkpoint.name} has no experts: they can't be remote`);
  const forMemory = cutsForMemory(checkpoint, options.segmentBytes ?? SEGMENT_BYTES);
  const cuts = checkCuts([...(options.cuts ?? []), ...forMemory], config.layers);
  const kernels = await kernelsOf(options);
  const library = new WeightLibrary(namedTensors(checkpoint));
  try {
    const blueprint = architecture.build({
      config,
      weights: library,
      precision,
      experts,
      kernels,
      cuts,
      gatesApart: options.gatesApart,
      cutEnds: forMemory.length > 0,
      format: checkpoint.format,
      kvRounding,
    });
    const making = {
      signal,
      onProgress: (convertedBytes: number, totalBytes: number) => onProgress?.({ convertedBytes, totalBytes }),
    };
    const users = new Map<string, number>();
    for (const { weights } of blueprint.segments) for (const { name } of weights) users.set(name, (users.get(name) ?? 0) + 1);
    const release = (): void => library[Symbol.dispose]();
    return {
      architecture: architecture.name,
      kvRounding,
      layers: blueprint.layers,
      vocabSize: config.vocabSize,
      contextLength: config.contextLength,
      hiddenSize: config.hiddenSize,
      segments: blueprint.segments.map((draft) => finish(draft, library, users, making)),
      weightBytes: library.bytes,
      releaseWeights: release,
      [Symbol.dispose]: release,
    };
  } catch (error) {
    library[Symbol.dispose]();
    throw error;
  }
}
