/** Random weights in ggml's block formats, as parts of a GGUF file; the same bytes on every machine. */
import type { GgufTensorPlan } from '@causeway/testkit';

export type WeightType = 'F32' | 'Q5_0' | 'Q8_0' | 'Q4_K' | 'Q6_K';

interface BlockFormat {
  /** ggml's number of the type (ggml.h, ggml_type). */
  ggml: number;
  elements: number;
  bytes: number;
  /** Standard deviation of weights whose scale is 1. */
  unit: number;
  /** Writes the scales of the block at `at`, whose bytes are random, so that a weight is `scale` times a number without bias. */
  scale: (bytes: Uint8Array, at: number, scale: number) => void;
}

/** f16 bits of a number from 2^-22 to 1, cut off; below 2^-14 as subnormals, as scales of K-quants often are. */
function half(value: number): number {
  if (!(value >= 2 ** -22 && value < 1)) throw new Error(`${value} is no scale for f16`);
  if (value < 2 ** -14) return Math.floor(value * 2 ** 24);
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;
  return ((((bits >>> 23) & 0xff) - 112) << 10) | ((bits >>> 13) & 0x3ff);
}

function putHalf(bytes: Uint8Array, at: number, value: number): void {
  const bits = half(value);
  bytes[at] = bits & 0xff;
  bytes[at + 1] = bits >>> 8;
}

/** Layouts: ggml-common.h, block_*. A quant of b bits is uniform: its standard deviation is sqrt((4^b - 1) / 12). */
const FORMATS: Readonly<Record<Exclude<WeightType, 'F32'>, BlockFormat>> = {
  Q5_0: { ggml: 6, elements: 32, bytes: 22, unit: 9.23, scale: putHalf },
  Q8_0: { ggml: 8, elements: 32, bytes: 34, unit: 73.9, scale: putHalf },
  Q4_K: {
    ggml: 12,
    elements: 256,
    bytes: 144,
    unit: 4.61,
    // Eight scales and the same eight minimums, 32 to 63, and dmin = 7.5 d: a weight is d * scale * (quant - 7.5).
    scale: (bytes, at, scale) => {
      const d = scale / 48;
      putHalf(bytes, at, d);
      putHalf(bytes, at + 2, 7.5 * d);
      for (let i = 4; i < 8; i++) {
        const first = 32 | ((bytes[at + i] ?? 0) & 31);
        const later = 32 | ((bytes[at + i + 4] ?? 0) & 31);
        bytes[at + i] = first | ((later >> 4) << 6);
        bytes[at + i + 4] = bytes[at + i] ?? 0;
        bytes[at + i + 8] = (later & 15) | ((later & 15) << 4);
      }
    },
  },
  Q6_K: {
    ggml: 14,
    elements: 256,
    bytes: 210,
    unit: 18.5,
    // Sixteen scales of either sign, 64 to 127.
    scale: (bytes, at, scale) => {
      putHalf(bytes, at + 208, scale / 96);
      for (let i = 192; i < 208; i++) {
        const random = bytes[at + i] ?? 0;
        const size = 64 | (random & 63);
        bytes[at + i] = random >= 128 ? 256 - size : size;
      }
    },
  },
};

/** Numbers from 0 to 2^32 - 1 that only depend on the seed (xorshift32). */
function randomWords(seed: number): (count: number) => Uint32Array {
  let state = Math.imul(seed, 0x9e37_79b9) | 1;
  return (count) => {
    const words = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[i] = state;
    }
    return words;
  };
}

/** Blocks that are made at once. */
const BATCH = 4096;

function* blocks(format: BlockFormat, count: number, seed: number, deviation: number): Generator<Uint8Array> {
  const words = randomWords(seed);
  const scale = deviation / format.unit;
  for (let done = 0; done < count; done += BATCH) {
    const size = Math.min(BATCH, count - done) * format.bytes;
    const bytes = new Uint8Array(words(Math.ceil(size / 4)).buffer, 0, size);
    for (let at = 0; at < size; at += format.bytes) format.scale(bytes, at, scale);
    yield bytes;
  }
}

/** Elements of a block. */
export function blockElements(type: WeightType): number {
  return type === 'F32' ? 1 : FORMATS[type].elements;
}

/** A tensor of F32 values. */
export function valuesPlan(name: string, dims: readonly number[], values: Float32Array): GgufTensorPlan {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name, dims, type: 0, byteLength: bytes.byteLength, bytes: () => [bytes] };
}

/** A tensor of seeded random weights around `mean` (F32 only, else 0) with about this standard deviation. Rows must be whole blocks. */
export function randomPlan(
  name: string,
  dims: readonly number[],
  type: WeightType,
  { seed, deviation, mean = 0 }: { seed: number; deviation: number; mean?: number },
): GgufTensorPlan {
  const elements = dims.reduce((product, dim) => product * dim, 1);
  if (type === 'F32') {
    const uniform = Float32Array.from(
      randomWords(seed)(elements),
      (word) => mean + (word / 2 ** 31 - 1) * deviation * Math.sqrt(3),
    );
    return valuesPlan(name, dims, uniform);
  }
  const format = FORMATS[type];
  const count = elements / format.elements;
  if ((dims[0] ?? 0) % format.elements !== 0) throw new Error(`${name}: rows of ${dims[0]} are not whole ${type} blocks`);
  return {
    name,
    dims,
    type: format.ggml,
    byteLength: count * format.bytes,
    bytes: () => blocks(format, count, seed, deviation),
  };
}
