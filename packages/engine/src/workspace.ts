import { fail } from '@causeway/errors';
import type { Segment, SymbolicDim, ValueSpec } from '@causeway/models';
import { ELEMENT_BYTES, NativeBuffer, Tensor } from '@causeway/ort';

/** Sizes of one run: B sequences, T new tokens each, R rows whose logits are wanted. */
export interface RunSize {
  batch: number;
  tokens: number;
  logitRows: number;
}

/** Inputs that the engine writes; every other input of a segment is an intermediate. */
export const RESERVED_INPUTS: readonly ValueSpec[] = [
  { name: 'token_ids', type: 'i64', shape: ['B', 'T'] },
  { name: 'position_ids', type: 'i64', shape: ['B', 'T'] },
  { name: 'seqlens_k', type: 'i32', shape: ['B'] },
  { name: 'total_sequence_length', type: 'i32', shape: [1] },
  { name: 'logit_rows', type: 'i64', shape: ['R'] },
];

/** Shape of a value in a run of `size`. */
export function concreteShape(shape: readonly SymbolicDim[], size: RunSize): number[] {
  const dims = { B: size.batch, T: size.tokens, N: size.batch * size.tokens, R: size.logitRows };
  return shape.map((dim) => (typeof dim === 'number' ? dim : dims[dim]));
}

function bytesOf(spec: ValueSpec, size: RunSize): number {
  return concreteShape(spec.shape, size).reduce((product, dim) => product * dim, 1) * ELEMENT_BYTES[spec.type];
}

/**
 * Memory of a model's inputs, intermediates and logits, for runs up to the given sizes. Values that never live at the same time
 * share a buffer: a value lives from the segment that writes it to the last that reads it, and logits to the end.
 */
export class Workspace implements Disposable {
  readonly #places = new Map<string, { spec: ValueSpec; buffer: NativeBuffer }>();
  readonly #buffers: NativeBuffer[] = [];

  /** @throws ServiceError `internal` when a segment reads what no earlier one writes. */
  constructor(segments: readonly Segment[], largest: readonly RunSize[]) {
    const sizeOf = (spec: ValueSpec) => Math.max(...largest.map((size) => bytesOf(spec, size)));
    for (const spec of RESERVED_INPUTS) this.#place([spec], sizeOf(spec));
    for (const slab of planSlabs(segments, sizeOf)) this.#place(slab.values, slab.bytes);
  }

  /** A value's memory, shaped for a run of `size`. */
  tensor(name: string, size: RunSize): Tensor {
    const { spec, buffer } = this.#find(name);
    return Tensor.of(buffer, 0, spec.type, concreteShape(spec.shape, size));
  }

  /** A value's whole memory. */
  bytes(name: string): Uint8Array {
    return this.#find(name).buffer.bytes();
  }

  /** Address space of all buffers. */
  get byteLength(): number {
    return this.#buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer[Symbol.dispose]();
  }

  #find(name: string): { spec: ValueSpec; buffer: NativeBuffer } {
    return this.#places.get(name) ?? fail('internal', 'internal', `no segment writes ${name}`);
  }

  #place(values: readonly ValueSpec[], bytes: number): void {
    const buffer = NativeBuffer.allocate(bytes);
    this.#buffers.push(buffer);
    for (const spec of values) this.#places.set(spec.name, { spec, buffer });
  }
}

interface Slab {
  bytes: number;
  values: ValueSpec[];
}

/** Assigns every value that segments write to a slab; linear scan over the segments, best fit among the free slabs. */
export function planSlabs(segments: readonly Segment[], sizeOf: (spec: ValueSpec) => number): Slab[] {
  const lastRead = new Map<string, number>();
  segments.forEach((segment, i) => {
    for (const input of segment.inputs) lastRead.set(input.name, i);
  });
  lastRead.set('logits', segments.length);
  const slabs: Slab[] = [];
  const free = new Set<Slab>();
  const live = new Map<string, Slab>();
  segments.forEach((segment, i) => {
    for (const spec of segment.outputs) {
      const bytes = sizeOf(spec);
      const slab = takeSlab(free, bytes) ?? { bytes, values: [] };
      if (slab.values.length === 0) slabs.push(slab);
      slab.bytes = Math.max(slab.bytes, bytes);
      slab.values.push(spec);
      live.set(spec.name, slab);
    }
    for (const [name, slab] of live) {
      if ((lastRead.get(name) ?? i) > i) continue;
      live.delete(name);
      free.add(slab);
    }
  });
  return slabs;
}

/** The smallest free slab that fits, else the largest, which then grows. */
function takeSlab(free: Set<Slab>, bytes: number): Slab | undefined {
  const sorted = [...free].sort((a, b) => a.bytes - b.bytes);
  const slab = sorted.find((candidate) => candidate.bytes >= bytes) ?? sorted.at(-1);
  if (slab !== undefined) free.delete(slab);
  return slab;
}
