/**
 * The loops over stored KV that have to be fast, in WebAssembly with 128-bit vectors, and the memory that they compute in: one of each in
 * a thread. What they work on is copied there and back, in bulk, which costs a fraction of any loop. kernels/*.ts are the sources,
 * `pnpm generate` compiles them.
 */
import { readFileSync } from 'node:fs';

/** Addresses and sizes are bytes in the kernels' memory. */
export interface Kernels {
  copyRuns(from: number, to: number, count: number, bytes: number, fromStride: number, toStride: number): void;
  split2(from: number, low: number, high: number, bytes: number): void;
  join2(low: number, high: number, to: number, bytes: number): void;
  split4(from: number, planes: number, stride: number, bytes: number): void;
  join4(planes: number, stride: number, to: number, bytes: number): void;
  widenBf16(from: number, to: number, count: number): void;
  narrowBf16(from: number, to: number, count: number): void;
  widenF16(from: number, to: number, count: number): void;
  narrowF16(from: number, to: number, count: number): void;
  widenBytes(from: number, to: number, count: number, table: number): void;
  narrowF8(from: number, to: number, count: number): void;
  divide(from: number, to: number, count: number, by: number): void;
  widenInt8(from: number, factors: number, to: number, rows: number, width: number): void;
  narrowInt8(from: number, factors: number, to: number, rows: number, width: number, least: number): void;
  widenInt4(from: number, factors: number, to: number, rows: number, width: number): void;
  narrowInt4(from: number, factors: number, to: number, rows: number, width: number, least: number): void;
}

const PAGE_BYTES = 65_536;
/** A table of 256 words, which widenBytes reads. */
export const TABLE = PAGE_BYTES;
const FIRST_AREA = 2 * PAGE_BYTES;
const ALIGNMENT = 64;
/** Kernels handle several numbers at a time, and go beyond the last one by less than this. */
const SLACK = 64;

class KernelThread {
  readonly run: Kernels;
  readonly #memory = new WebAssembly.Memory({ initial: FIRST_AREA / PAGE_BYTES });
  #bytes = new Uint8Array(this.#memory.buffer);

  constructor() {
    const module = new WebAssembly.Module(readFileSync(new URL('./gen/kernels.wasm', import.meta.url)));
    this.run = new WebAssembly.Instance(module, { env: { memory: this.#memory } }).exports as unknown as Kernels;
  }

  /** All of the memory. Not valid any more after `areas`. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Addresses of areas of so many bytes, one after the other, each at a multiple of 64. Those asked for before are given up. */
  areas<T extends readonly number[]>(...sizes: T): { [K in keyof T]: number } {
    let end = FIRST_AREA;
    const places = sizes.map((size) => {
      const at = end;
      end += Math.ceil((size + SLACK) / ALIGNMENT) * ALIGNMENT;
      return at;
    });
    if (end > this.#bytes.length) {
      this.#memory.grow(Math.ceil((end - this.#bytes.length) / PAGE_BYTES));
      this.#bytes = new Uint8Array(this.#memory.buffer);
    }
    return places as { [K in keyof T]: number };
  }

  /** Copies bytes into the memory. */
  put(bytes: Uint8Array, at: number): void {
    this.#bytes.set(bytes, at);
  }

  /** Bytes of the memory, not copied. */
  view(at: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(at, at + length);
  }
}

let thread: KernelThread | undefined;

/** Those of this thread. */
export function kernels(): KernelThread {
  thread ??= new KernelThread();
  return thread;
}
