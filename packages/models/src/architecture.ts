/** What an architecture folder exports. */
import type { KvWireForm, LayerGeometry } from '@causeway/kv';
import type { Checkpoint, ModelConfig } from '@causeway/model-files';
import type { GgufForm } from './gguf-form.ts';
import type { SegmentDraft, SegmentKernels } from './segment-builder.ts';
import type { ExpertsPlace, Precision } from './types.ts';
import type { WeightLibrary } from './weight-library.ts';

/** What a builder gets. */
export interface BuildContext {
  config: ModelConfig;
  weights: WeightLibrary;
  precision: Precision;
  experts: ExpertsPlace;
  /** What new keys and values are rounded to before attention; left out: nothing. */
  kvRounding?: KvWireForm | undefined;
  /** Of where the graphs will run. */
  kernels: SegmentKernels;
  /** Decoder layers at which a new segment starts, ascending, each in [1, layers). */
  cuts: ReadonlySet<number>;
  /** The router of each layer with experts is a segment of its own. */
  gatesApart?: boolean | undefined;
  /** Token table and output projection are segments of their own. */
  cutEnds: boolean;
  /** Of the files. Tensors have Hugging Face's names in either. */
  format: Checkpoint['format'];
}

/** What a builder gives: geometry and segments, in order of execution. */
export interface Blueprint {
  layers: readonly LayerGeometry[];
  segments: readonly SegmentDraft[];
}

export interface Architecture {
  /** `model_type` of config.json. */
  name: string;
  /** Other model_types that are the same architecture. */
  aliases?: readonly string[];
  /** undefined: GGUF files of it are not read. */
  gguf?: GgufForm;
  /** Throws ServiceError `missing_tensor`, `wrong_shape`, `unsupported_format` or `malformed_file`. */
  build(context: BuildContext): Blueprint;
}
