/** Random weights of the quantised types, for tests. */
import { BLOCK, type ConvertibleType } from '../convert/convert-job.ts';
import { isQuantized, type QuantizedType } from '../convert/quant-formats.ts';
import { widen } from '../convert/widen.ts';
import { seededNumbers, storedF32, type StoredTensor } from './memory-checkpoint.ts';

/** Where the f16 fields of a block are, and about how large they are where weights are about 1. */
const FIELDS: Readonly<Record<QuantizedType, readonly (readonly [at: number, size: number])[]>> = {
  Q4_0: [[0, 1 / 8]],
  Q4_1: [
    [0, 1 / 8],
    [2, -1],
  ],
  Q5_0: [[0, 1 / 16]],
  Q5_1: [
    [0, 1 / 16],
    [2, -1],
  ],
  Q8_0: [[0, 1 / 128]],
  Q4_K: [
    [0, 1 / (8 * 32)],
    [2, 1 / 32],
  ],
  Q5_K: [
    [0, 1 / (16 * 32)],
    [2, 1 / 32],
  ],
  Q6_K: [[208, 1 / (32 * 64)]],
};

/** f16 bits of a number below 2^16, cut off; zero below f16's normal range. */
function half(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 0xff) - 112;
  return exponent > 0 ? sign | (exponent << 10) | ((bits >>> 13) & 0x3ff) : sign;
}

const words = (values: Iterable<number>): Uint8Array => new Uint8Array(Uint16Array.from(values).buffer);

/** A seeded tensor of a type; weights are about as large as `scale`. Rows must be whole blocks. */
export function storedAs(type: ConvertibleType, shape: readonly number[], seed: number, scale = 0.5): StoredTensor {
  const count = shape.reduce((product, dim) => product * dim, 1);
  if (!isQuantized(type)) {
    const numbers = seededNumbers(seed, count, scale);
    if (type === 'F32') return storedF32(shape, numbers);
    const bytes = type === 'F16' ? numbers.map(half) : new Uint32Array(numbers.buffer).map((word) => word >>> 16);
    return { type, shape, bytes: words(bytes) };
  }
  const { elements, bytes: step } = BLOCK[type];
  const bytes = Uint8Array.from(seededNumbers(seed, (count / elements) * step, 128), (value) => value + 128);
  const sizes = seededNumbers(seed + 1, count / elements);
  for (const [block, random] of sizes.entries())
    for (const [at, size] of FIELDS[type]) bytes.set(words([half(size * scale * (1 + random / 2))]), block * step + at);
  return { type, shape, bytes };
}

/** The same numbers as f32. */
export function widened({ type, shape, bytes }: StoredTensor): StoredTensor {
  const values = new Float32Array(shape.reduce((product, dim) => product * dim, 1));
  widen(type as ConvertibleType, bytes, values);
  return storedF32(shape, values);
}
