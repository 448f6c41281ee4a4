/** What an architecture folder exports. */
import type { LayerGeometry } from '@causeway/kv';
import type { ModelConfig } from '@causeway/model-files';
import type { SegmentDraft } from './segment-builder.ts';
import type { Precision } from './types.ts';
import type { WeightLibrary } from './weight-library.ts';

/** What a builder gets. */
export interface BuildContext {
  config: ModelConfig;
  weights: WeightLibrary;
  precision: Precision;
  /** Decoder layers at which a new segment starts, ascending, each in [1, layers). */
  cuts: ReadonlySet<number>;
  /** Rows of Q and K are stored for rotation of neighbouring pairs (llama-architecture GGUF files). */
  ropePermuted: boolean;
}

/** What a builder gives: geometry and segments, in order of execution. */
export interface Blueprint {
  layers: readonly LayerGeometry[];
  segments: readonly SegmentDraft[];
}

export interface Architecture {
  /** `model_type` of config.json. */
  name: string;
  /** Throws ServiceError `missing_tensor`, `wrong_shape`, `unsupported_format` or `malformed_file`. */
  build(context: BuildContext): Blueprint;
}
