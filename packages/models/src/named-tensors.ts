import { type Checkpoint, type NamedTensors, withHuggingFaceNames, withPackedWeights } from '@causeway/model-files';
import { findArchitecture } from './registry.ts';

/**
 * The checkpoint's tensors under Hugging Face's names, packed weights as one tensor each.
 * @throws ServiceError `unknown_architecture`, `malformed_file`.
 */
export function namedTensors(checkpoint: Checkpoint): NamedTensors {
  if (checkpoint.format === 'safetensors') return withPackedWeights(checkpoint);
  const { gguf } = findArchitecture(checkpoint);
  return gguf === undefined ? checkpoint : withHuggingFaceNames(checkpoint, gguf.blocks);
}
