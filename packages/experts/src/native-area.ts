import { type ElementType, ELEMENT_BYTES, NativeBuffer, Tensor } from '@causeway/ort';

/** Native memory that grows to the largest use so far. One user at a time; views of it last until the next `tensor` or `bytes`. */
export class NativeArea implements Disposable {
  #buffer: NativeBuffer | undefined;

  get byteLength(): number {
    return this.#buffer?.byteLength ?? 0;
  }

  /** The first bytes, whatever they hold. */
  bytes(length: number): Uint8Array {
    return this.#atLeast(length).bytes(0, length);
  }

  /** A tensor over the first bytes; dispose of it. */
  tensor(type: ElementType, shape: readonly number[]): Tensor {
    const length = shape.reduce((product, dim) => product * dim, 1) * ELEMENT_BYTES[type];
    return Tensor.of(this.#atLeast(length), 0, type, shape);
  }

  [Symbol.dispose](): void {
    this.#buffer?.[Symbol.dispose]();
    this.#buffer = undefined;
  }

  #atLeast(length: number): NativeBuffer {
    const wanted = Math.max(length, 64);
    if (this.#buffer === undefined || this.#buffer.byteLength < wanted) {
      this.#buffer?.[Symbol.dispose]();
      this.#buffer = NativeBuffer.allocate(Math.max(wanted, 2 * (this.#buffer?.byteLength ?? 0)));
    }
    return this.#buffer;
  }
}

/** Native bytes as 64-bit integers. */
export function int64s(bytes: Uint8Array): BigInt64Array {
  return new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
}

/** Native bytes as f32. */
export function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** The memory of a tensor. */
export function bytesOf(tensor: Tensor): Uint8Array {
  return tensor.buffer.bytes(tensor.offset, tensor.byteLength);
}
