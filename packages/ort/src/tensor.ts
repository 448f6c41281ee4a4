import { fail } from '@causeway/errors';
import { api, create } from './api.ts';
import type { NativeBuffer } from './memory.ts';

/** Element types, ONNX's TensorProto numbers, and bytes of an element. */
const TYPES = {
  f32: [1, 4],
  u8: [2, 1],
  i8: [3, 1],
  i32: [6, 4],
  i64: [7, 8],
  bool: [9, 1],
  f16: [10, 2],
  bf16: [16, 2],
} as const;
export type ElementType = keyof typeof TYPES;

/** Bytes of one element. */
export const ELEMENT_BYTES = Object.fromEntries(Object.entries(TYPES).map(([type, [, bytes]]) => [type, bytes])) as Readonly<
  Record<ElementType, number>
>;

let memoryInfo: bigint | undefined;
let live = 0;

/** Tensors that are not disposed. */
export function liveTensors(): number {
  return live;
}

/** A shaped view of native memory that ONNX Runtime can read and write. Keeps its buffer mapped. */
export class Tensor implements Disposable {
  readonly buffer: NativeBuffer;
  readonly offset: number;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly #hold: Disposable;
  readonly #value: bigint;
  #uses = 0;
  #disposed = false;

  private constructor(buffer: NativeBuffer, offset: number, type: ElementType, shape: readonly number[], byteLength: number) {
    this.buffer = buffer;
    this.offset = offset;
    this.type = type;
    this.shape = shape;
    this.byteLength = byteLength;
    this.#hold = buffer.retain();
    memoryInfo ??= create('making memory info', (out) => api().CreateCpuMemoryInfo(1, 0, out));
    const dims = new BigInt64Array(new ArrayBuffer(shape.length * 8 + 128), 0, shape.length);
    for (const [i, dim] of shape.entries()) dims[i] = BigInt(dim);
    this.#value = create('making a tensor', (out) =>
      api().CreateTensorWithDataAsOrtValue(
        memoryInfo,
        buffer.address + BigInt(offset),
        byteLength,
        dims,
        shape.length,
        TYPES[type][0],
        out,
      ),
    );
    live++;
  }

  /** @throws ServiceError when the shape does not fit into the buffer from `offset`. */
  static of(buffer: NativeBuffer, offset: number, type: ElementType, shape: readonly number[]): Tensor {
    const elements = shape.reduce((product, dim) => product * dim, 1);
    const byteLength = elements * ELEMENT_BYTES[type];
    if (!Number.isSafeInteger(byteLength) || shape.some((dim) => !Number.isInteger(dim) || dim < 0)) {
      fail('invalid_argument', 'runtime', `[${shape.join(', ')}] is not a shape`);
    }
    if (!(offset >= 0 && offset + byteLength <= buffer.byteLength)) {
      fail(
        'out_of_range',
        'runtime',
        `a ${type} [${shape.join(', ')}] at ${offset} does not fit into ${buffer.byteLength} bytes`,
      );
    }
    return new Tensor(buffer, offset, type, [...shape], byteLength);
  }

  /** The OrtValue, for this package. */
  get handle(): bigint {
    if (this.#disposed) fail('failed_precondition', 'runtime', 'a tensor was used after it was disposed');
    return this.#value;
  }

  /** Keeps the OrtValue while native code may use it. */
  retain(): Disposable {
    void this.handle;
    this.#uses++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#uses--;
        this.#releaseIfUnused();
      },
    };
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#releaseIfUnused();
  }

  #releaseIfUnused(): void {
    if (!this.#disposed || this.#uses > 0) return;
    this.#uses = -1;
    api().ReleaseValue(this.#value);
    this.#hold[Symbol.dispose]();
    live--;
  }
}
