/** GGUF tensor names as Hugging Face's. What the parts of a block are called is a fact of each architecture, given as data. */
import { fail } from '@causeway/errors';
import type { Checkpoint } from './checkpoint.ts';
import type { TensorInfo } from './tensor-info.ts';

/**
 * Hugging Face's names, below `model.layers.<layer>`, of the parts in `blk.<layer>.<part>.<weight|bias>`. A name with `*` is that of
 * one expert (or head): GGUF has those of a layer as one tensor, one after the other. A part named with its kind, `part.bias`, has
 * the whole name.
 */
export type GgufBlocks = Readonly<Record<string, string>>;

/** The tensors of a checkpoint by name. */
export type NamedTensors = Pick<Checkpoint, 'name' | 'tensors' | 'data'>;

/** The largest models have some seventy thousand, counting each expert's: more is damage. */
const MOST_TENSORS = 200_000;

const OUTSIDE_BLOCKS: GgufBlocks = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

/** Hugging Face's name of a GGUF tensor; unknown names stay as they are. */
export function huggingFaceName(blocks: GgufBlocks, name: string): string {
  const [, path = '', kind = ''] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
  if (Object.hasOwn(OUTSIDE_BLOCKS, path)) return `${OUTSIDE_BLOCKS[path]}.${kind}`;
  const [, layer = '', part = ''] = /^blk\.(\d+)\.([a-z0-9_]+)$/.exec(path) ?? [];
  const whole = `${part}.${kind}`;
  if (Object.hasOwn(blocks, whole)) return `model.layers.${layer}.${blocks[whole]}`;
  return Object.hasOwn(blocks, part) ? `model.layers.${layer}.${blocks[part]}.${kind}` : name;
}

/** Where a tensor is: in one of the file's, from byte `start` on. */
interface Place {
  fileName: string;
  start: number;
}

/**
 * The tensors of a GGUF checkpoint under Hugging Face's names.
 * @throws ServiceError `malformed_file` when two get the same one.
 */
export function withHuggingFaceNames(checkpoint: NamedTensors, blocks: GgufBlocks): NamedTensors {
  const tensors = new Map<string, TensorInfo>();
  const places = new Map<string, Place>();
  const add = (info: TensorInfo, place: Place): void => {
    const { name } = info;
    if (tensors.has(name)) {
      const twice = `${checkpoint.name}: the tensor ${name} is there twice, once as ${place.fileName}`;
      fail('invalid_argument', 'malformed_file', twice);
    }
    if (tensors.size === MOST_TENSORS)
      fail('invalid_argument', 'malformed_file', `${checkpoint.name}: with its experts it has more than ${MOST_TENSORS} tensors`);
    tensors.set(name, info);
    places.set(name, place);
  };
  for (const [fileName, info] of checkpoint.tensors) {
    const name = huggingFaceName(blocks, fileName);
    if (name === fileName || !name.includes('*')) {
      add({ ...info, name }, { fileName, start: 0 });
      continue;
    }
    const [stacked = 0, ...shape] = info.shape;
    // One of an unknown type, whose bytes nobody can count, is refused by its first expert.
    const experts = info.byteLength === 0 ? 1 : stacked;
    const byteLength = info.byteLength / experts;
    for (let expert = 0; expert < experts; expert++)
      add({ ...info, name: name.replace('*', String(expert)), shape, byteLength }, { fileName, start: expert * byteLength });
  }
  return {
    name: checkpoint.name,
    tensors,
    data: (name) => {
      const { fileName, start } = places.get(name) ?? { fileName: name, start: 0 };
      const { buffer, offset, byteLength } = checkpoint.data(fileName);
      return { buffer, offset: offset + start, byteLength: tensors.get(name)?.byteLength ?? byteLength };
    },
  };
}
