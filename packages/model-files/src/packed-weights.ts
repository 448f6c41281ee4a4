/**
 * Weights of compressed-tensors' format pack-quantized, as Kimi K2.5 and later ship their routed experts: `X.weight_packed` i32
 * [out, in / 8], eight codes to a word, the first in the lowest bits; `X.weight_scale` [out, in / 32]; `X.weight_shape` i64 [2]. A weight
 * is (code - 8) * scale. Here such a weight is one tensor `X.weight` [out, in] of type INT4_G32 whose bytes are the codes; its scales keep
 * their name.
 */
import { fail } from '@causeway/errors';
import type { NamedTensors } from './gguf-names.ts';
import type { TensorInfo } from './tensor-info.ts';

/** 4-bit codes around 8, 32 inputs to a scale. */
export const INT4_GROUPS = 'INT4_G32';
/** Inputs that share a scale. */
export const INT4_GROUP = 32;
const CODES_PER_WORD = 8;
const SCALE_TYPES = ['BF16', 'F16', 'F32'];
const SUFFIX = '_packed';

/** The tensors of a safetensors checkpoint, packed weights as one tensor each. Those of other forms have a type that says what they are. */
export function withPackedWeights(checkpoint: NamedTensors): NamedTensors {
  const packed = [...checkpoint.tensors.keys()].filter((name) => name.endsWith(`.weight${SUFFIX}`));
  if (packed.length === 0) return checkpoint;
  const tensors = new Map(checkpoint.tensors);
  for (const name of packed) {
    const weight = name.slice(0, -SUFFIX.length);
    tensors.delete(name);
    tensors.set(weight, packedWeight(checkpoint, weight));
  }
  return {
    name: checkpoint.name,
    tensors,
    data: (name) => {
      if (!tensors.has(name) || checkpoint.tensors.has(name)) return checkpoint.data(name);
      checkShape(checkpoint, name, tensors.get(name)?.shape ?? []);
      return checkpoint.data(name + SUFFIX);
    },
  };
}

/** What `weight` is, by the headers alone. */
function packedWeight({ tensors }: NamedTensors, weight: string): TensorInfo {
  const { type, shape, byteLength } = tensors.get(weight + SUFFIX) as TensorInfo;
  const [rows = 0, words = 0] = shape;
  const columns = words * CODES_PER_WORD;
  const scale = tensors.get(`${weight}_scale`);
  const other = (what: string): TensorInfo => ({ name: weight, type: `pack-quantized ${what}`, shape, byteLength: 0 });
  if (type !== 'I32' || shape.length !== 2) return other(`in ${type} of ${shape.length} dimensions`);
  if (tensors.has(`${weight}_zero_point`)) return other('with zero points');
  if (tensors.has(`${weight}_g_idx`)) return other('with reordered inputs');
  if (scale === undefined || !SCALE_TYPES.includes(scale.type)) return other(`with scales in ${scale?.type ?? 'no tensor'}`);
  if (scale.shape.length !== 2 || scale.shape[0] !== rows || scale.shape[1] !== columns / INT4_GROUP)
    return other(`in words [${shape.join(', ')}] with scales [${scale.shape.join(', ')}]`);
  return { name: weight, type: INT4_GROUPS, shape: [rows, columns], byteLength };
}

/** @throws ServiceError `missing_tensor` or `malformed_file` unless the file says the same shape: codes of 8 bits have another. */
function checkShape(checkpoint: NamedTensors, weight: string, shape: readonly number[]): void {
  const name = `${weight}_shape`;
  const info = checkpoint.tensors.get(name);
  if (info === undefined) fail('invalid_argument', 'missing_tensor', `${checkpoint.name}: the tensor ${name} is missing`);
  const { buffer, offset, byteLength } = checkpoint.data(name);
  if (info.type !== 'I64' || byteLength !== 16)
    fail('invalid_argument', 'malformed_file', `${checkpoint.name}: ${name} is ${info.type} of ${byteLength} bytes, not two I64`);
  const bytes = Buffer.from(buffer.bytes(offset, byteLength));
  const found = [bytes.readBigInt64LE(0), bytes.readBigInt64LE(8)];
  if (found.every((dim, i) => dim === BigInt(shape[i] ?? -1))) return;
  const packed = `${weight}${SUFFIX} has codes of 4 bits for [${shape.join(', ')}]`;
  fail('invalid_argument', 'malformed_file', `${checkpoint.name}: ${name} says [${found.join(', ')}]; ${packed}`);
}
