import { fail } from '@causeway/errors';
import { api } from './api.ts';
import { live } from './diagnostics.ts';
import { Lifetime } from './lifetime.ts';
import { create, dimensions } from './native-call.ts';
import type { DeviceBuffer } from './device-buffer.ts';
import { NativeBuffer } from './native-buffer.ts';

/** Element types: ONNX's TensorProto.DataType number, and bytes of an element. */
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
/** Element types that a tensor here can have. */
export type ElementType = keyof typeof TYPES;

/** Bytes of one element. */
export const ELEMENT_BYTES = Object.fromEntries(Object.entries(TYPES).map(([type, [, bytes]]) => [type, bytes])) as Readonly<
  Record<ElementType, number>
>;

const BY_NUMBER = new Map<number, ElementType>(Object.entries(TYPES).map(([type, [n]]) => [n, type as ElementType]));

/** Element type of ONNX's number; undefined for those that tensors here cannot have. */
export function elementType(onnxNumber: number): ElementType | undefined {
  return BY_NUMBER.get(onnxNumber);
}

/** ONNX Runtime refuses more long before. */
const MAX_RANK = 32;

// OrtArenaAllocator, OrtMemTypeDefault: the CPU's memory. Made once per thread, never released.
let cpuMemory: bigint | undefined;

/** The tensor's OrtValue, valid while the tensor is held. @throws ServiceError after disposal. For this package only. */
export let nativeValue: (tensor: Tensor) => bigint;

/** Memory that tensors can have: this process's own, or a device's. */
export type TensorMemory = NativeBuffer | DeviceBuffer;

/** A shaped view of memory that ONNX Runtime can read and write. It holds its memory; bindings and runs hold it. */
export class Tensor implements Disposable {
  readonly memory: TensorMemory;
  /** Bytes from the start of the buffer. */
  readonly offset: number;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly #value: bigint;
  readonly #lifetime: Lifetime;

  private constructor(buffer: TensorMemory, offset: number, type: ElementType, shape: readonly number[], byteLength: number) {
    this.memory = buffer;
    this.offset = offset;
    this.type = type;
    this.shape = shape;
    this.byteLength = byteLength;
    const memory = buffer.retain();
    try {
      const info = buffer instanceof NativeBuffer ? cpu() : buffer.info;
      this.#value = createValue(info, buffer.address + BigInt(offset), byteLength, type, shape);
    } catch (error) {
      memory[Symbol.dispose]();
      throw error;
    }
    live.tensors++;
    this.#lifetime = new Lifetime('a tensor', () => {
      api().ReleaseValue(this.#value);
      memory[Symbol.dispose]();
      live.tensors--;
    });
  }

  /**
   * A tensor over the memory's bytes from `offset` on, elements in row-major order. In a device's memory it starts at the beginning: a
   * device's buffer is a handle, of which there is no part.
   * @throws ServiceError when the shape is none or does not fit into the buffer, or the buffer was disposed.
   */
  static of(buffer: TensorMemory, offset: number, type: ElementType, shape: readonly number[]): Tensor {
    const elements = shape.reduce((product, dim) => product * dim, 1);
    const byteLength = elements * (ELEMENT_BYTES[type] ?? Number.NaN);
    if (shape.length > MAX_RANK || !shape.every(isSize) || !isSize(byteLength)) {
      fail('invalid_argument', 'runtime', `${type} [${shape.slice(0, MAX_RANK).join(', ')}] is not a tensor's type and shape`);
    }
    if (!(isSize(offset) && offset + byteLength <= buffer.byteLength)) {
      const what = `a ${type} [${shape.join(', ')}] at ${offset}`;
      fail('out_of_range', 'runtime', `${what} does not fit into ${buffer.byteLength} bytes`);
    }
    if (offset > 0 && !(buffer instanceof NativeBuffer))
      fail('invalid_argument', 'runtime', `a tensor cannot start ${offset} bytes into a device's buffer`);
    return new Tensor(buffer, offset, type, [...shape], byteLength);
  }

  /** The memory of this process that it lies in. @throws ServiceError `runtime` when it lies in a device's. */
  get buffer(): NativeBuffer {
    if (this.memory instanceof NativeBuffer) return this.memory;
    return fail('failed_precondition', 'runtime', "a tensor in a device's memory has no bytes here: copy it by a graph");
  }

  /** Whether the owner is done with it; a binding or run may still hold it. */
  get disposed(): boolean {
    return this.#lifetime.ended;
  }

  /** Keeps the tensor while native code may use it, even when it is disposed meanwhile. Dispose the result to end that. */
  retain(): Disposable {
    return this.#lifetime.hold();
  }

  /** Frees the tensor, or lets the last holder free it. Idempotent. */
  [Symbol.dispose](): void {
    this.#lifetime.end();
  }

  static {
    nativeValue = (tensor) => {
      tensor.#lifetime.check();
      return tensor.#value;
    };
  }
}

function cpu(): bigint {
  cpuMemory ??= create('describing memory', (out) => api().CreateCpuMemoryInfo(1, 0, out));
  return cpuMemory;
}

function createValue(info: bigint, address: bigint, byteLength: number, type: ElementType, shape: readonly number[]): bigint {
  const dims = dimensions(shape);
  const number = TYPES[type][0];
  return create('making a tensor', (out) =>
    api().CreateTensorWithDataAsOrtValue(info, address, byteLength, dims, shape.length, number, out),
  );
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
