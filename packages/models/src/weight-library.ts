/**
 * The weights that a model's graphs refer to. Builders ask for a weight in the form an operator wants; the library checks
 * name, type and shape at once, and later either wraps the mapped file (f32, no copy) or converts into native memory.
 * A form asked for twice, by the same or another segment, exists once.
 */
import { fail } from '@causeway/errors';
import type { NamedTensors, TensorInfo } from '@causeway/model-files';
import { type ElementType, NativeBuffer, Tensor } from '@causeway/ort';
import {
  BLOCK,
  CONVERTIBLE_TYPES,
  type ConvertibleType,
  type ConvertJob,
  jobBytes,
  type SourceRows,
} from './convert/convert-job.ts';
import { type ConvertOptions, runConvertJobs } from './convert/convert-pool.ts';
import { isQuantized } from './convert/quant-formats.ts';
import { packedForm } from './convert/repack.ts';

/** A weight as an initialiser of a graph. */
export interface WeightRef {
  name: string;
  type: ElementType;
  shape: readonly number[];
}

/** Rows [first, first + count) of a tensor whose dimensions after the first are one row. */
export interface RowRange {
  first: number;
  count: number;
}

/** One matrix [outputs, in] among others with the same input. */
export interface BlockedMember {
  name: string;
  outputs: number;
}

/** A weight in groups of inputs: quants u8 [out, in / group, bits * group / 8], scales and offsets f32 [out, in / group]. */
export interface BlockedWeight {
  bits: 4 | 8;
  group: 16 | 32;
  quants: WeightRef;
  scales: WeightRef;
  /** Of types with minimums: what multiplies the group sums of the input. */
  offsets: WeightRef | undefined;
}

/** A million positions of 64 pairs take half of it; more is a mistake in a config. */
const MOST_ROTARY_BYTES = 1024 ** 3;
/** Rows of a job are cut so that it takes some 10 ms: progress, cancellation and threads get their turn. */
const JOB_ELEMENTS = 4 * 1024 * 1024;

const shapeText = (shape: readonly number[]): string => `[${shape.join(', ')}]`;
const elements = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1);
const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

function isConvertible(type: string): type is ConvertibleType {
  return (CONVERTIBLE_TYPES as readonly string[]).includes(type);
}

export class WeightLibrary implements Disposable {
  readonly #checkpoint: NamedTensors;
  readonly #refs = new Map<string, WeightRef>();
  readonly #tensors = new Map<string, Tensor>();
  readonly #buffers: NativeBuffer[] = [];
  readonly #jobs: ConvertJob[] = [];
  #bytes = 0;

  constructor(checkpoint: NamedTensors) {
    this.#checkpoint = checkpoint;
  }

  /** Bytes of all weights handed out so far, mapped or converted. */
  get bytes(): number {
    return this.#bytes;
  }

  has(name: string): boolean {
    return this.#checkpoint.tensors.has(name);
  }

  /**
   * The tensor's entry, of the expected shape.
   * Throws ServiceError `missing_tensor`, `wrong_shape` or `unsupported_format` (a type that no operator takes).
   */
  info(name: string, shape: readonly number[]): TensorInfo & { type: ConvertibleType } {
    const info = this.#checkpoint.tensors.get(name);
    if (info === undefined) {
      fail('invalid_argument', 'missing_tensor', `${this.#checkpoint.name}: the tensor ${name} is missing`);
    }
    if (!sameShape(info.shape, shape)) {
      const found = shapeText(info.shape);
      fail(
        'invalid_argument',
        'wrong_shape',
        `${this.#checkpoint.name}: ${name} is ${found}; its config wants ${shapeText(shape)}`,
      );
    }
    const type: string = info.type;
    if (!isConvertible(type)) {
      const known = CONVERTIBLE_TYPES.join(', ');
      fail(
        'unimplemented',
        'unsupported_format',
        `${this.#checkpoint.name}: ${name} is stored as ${type}; weights may be ${known}`,
      );
    }
    const columns = shape.at(-1) ?? 1;
    const block = BLOCK[type];
    if (columns % block.elements !== 0 || info.byteLength !== (elements(shape) / block.elements) * block.bytes) {
      fail(
        'invalid_argument',
        'malformed_file',
        `${this.#checkpoint.name}: ${name} has ${info.byteLength} bytes, not what ${type} ${shapeText(shape)} takes`,
      );
    }
    return { ...info, type };
  }

  /** The numbers of a short f32 vector (a few KB), read now. Throws as `info` does. */
  numbers(name: string, length: number): Float32Array {
    const { type, byteLength } = this.info(name, [length]);
    if (type !== 'F32') fail('unimplemented', 'unsupported_format', `${this.#checkpoint.name}: ${name} is ${type}, not F32`);
    const { buffer, offset } = this.#checkpoint.data(name);
    return new Float32Array(buffer.bytes(offset, byteLength).slice().buffer);
  }

  /** The tensor (or some of its rows) as f32: the mapped file itself when it is f32 already. */
  f32(name: string, shape: readonly number[], range?: RowRange): WeightRef {
    const key = range === undefined ? name : `${name}[${range.first}:${range.first + range.count}]`;
    return this.#once(key, 'f32', range === undefined ? shape : [range.count, ...shape.slice(1)], (ref) => {
      const source = this.#source(name, shape, range);
      const at = this.#located(name, source, range);
      if (source.type === 'F32' && (at.buffer.address + BigInt(at.offset)) % 4n === 0n) {
        this.#tensors.set(ref.name, Tensor.of(at.buffer, at.offset, 'f32', ref.shape));
        return;
      }
      const target = this.#allocate(ref);
      this.#split(source, (part, firstRow) => ({
        kind: 'f32',
        source: part,
        target: target.address + BigInt(firstRow * source.columns * 4),
      }));
    });
  }

  /** Quantised matrices of one type with the same input, one below the other, for MatMulNBits with its default zero point. */
  blocked(members: readonly BlockedMember[], inputs: number): BlockedWeight {
    const sources = members.map(({ name, outputs }) => this.#source(name, [outputs, inputs]));
    const type = sources[0]?.type;
    if (type === undefined || !isQuantized(type) || sources.some((source) => source.type !== type))
      fail('internal', 'internal', 'blocked weights differ in type or are not quantised');
    const { bits, group, hasOffsets } = packedForm(type);
    const outputs = members.reduce((sum, member) => sum + member.outputs, 0);
    const groups = inputs / group;
    const made = this.#packed(members.map(({ name }) => name).join('+'), `q${bits}`, [
      ['quants', 'u8', [outputs, groups, (bits * group) / 8]],
      ['scales', 'f32', [outputs, groups]],
      ...(hasOffsets ? [['offsets', 'f32', [outputs, groups]] satisfies PackedPart] : []),
    ]);
    const [quants, scales, offsets] = made.refs as [WeightRef, WeightRef, WeightRef | undefined];
    let below = 0;
    for (const source of made.fresh ? sources : []) {
      const above = below;
      this.#split(source, (part, firstRow) => {
        const row = above + firstRow;
        return {
          kind: 'nbits',
          source: { ...part, type },
          quants: this.#address(quants, row),
          scales: this.#address(scales, row),
          offsets: offsets === undefined ? undefined : this.#address(offsets, row),
        };
      });
      below += source.rows;
    }
    return { bits, group, quants, scales, offsets };
  }

  /** cos and sin tables [positions, frequencies] of `position * frequency`, times `factor`; frequencies in radians per token. */
  rotary(key: string, frequencies: readonly number[], positions: number, factor: number): { cos: WeightRef; sin: WeightRef } {
    const shape = [positions, frequencies.length];
    if (elements(shape) * 8 > MOST_ROTARY_BYTES) {
      const message = `a context of ${positions} tokens is too long: its rotary tables would pass ${MOST_ROTARY_BYTES} bytes`;
      fail('invalid_argument', 'unsupported_format', `${this.#checkpoint.name}: ${message}`);
    }
    const made = this.#packed(key, 'rotary', [
      ['cos', 'f32', shape],
      ['sin', 'f32', shape],
    ]);
    const [cos, sin] = made.refs as [WeightRef, WeightRef];
    if (made.fresh) {
      const table = Float64Array.from(frequencies);
      this.#jobs.push({
        kind: 'rotary',
        frequencies: table,
        positions,
        factor,
        cos: this.#address(cos, 0),
        sin: this.#address(sin, 0),
      });
    }
    return { cos, sin };
  }

  /** Runs every conversion asked for so far. Throws ServiceError `cancelled` or `internal`. */
  async convert(
    options: { onProgress?: ((done: number, total: number) => void) | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    const jobs = this.#jobs.splice(0);
    const total = jobs.reduce((sum, job) => sum + jobBytes(job), 0);
    let done = 0;
    const passed: ConvertOptions = {
      signal: options.signal,
      onBytes: (bytes) => {
        done += bytes;
        options.onProgress?.(done, total);
      },
    };
    options.onProgress?.(0, total);
    await runConvertJobs(jobs, passed);
  }

  /** The native tensor of a weight; its bytes are there once `convert` has settled. */
  tensor(ref: WeightRef): Tensor {
    return this.#tensors.get(ref.name) ?? fail('internal', 'internal', `the weight ${ref.name} was never made`);
  }

  /** Frees converted weights. Mapped ones belong to the checkpoint. Idempotent. */
  [Symbol.dispose](): void {
    for (const tensor of this.#tensors.values()) tensor[Symbol.dispose]();
    for (const buffer of this.#buffers) buffer[Symbol.dispose]();
    this.#tensors.clear();
    this.#buffers.length = 0;
  }

  #once(name: string, type: ElementType, shape: readonly number[], make: (ref: WeightRef) => void): WeightRef {
    const known = this.#refs.get(name);
    if (known !== undefined) return known;
    const ref: WeightRef = { name, type, shape };
    make(ref);
    this.#refs.set(name, ref);
    this.#bytes += this.tensor(ref).byteLength;
    return ref;
  }

  #packed(name: string, form: string, parts: readonly PackedPart[]): { refs: WeightRef[]; fresh: boolean } {
    const fresh = !this.#refs.has(`${name}.${form}.${parts[0]?.[0]}`);
    const refs = parts.map(([part, type, shape]) =>
      this.#once(`${name}.${form}.${part}`, type, shape, (ref) => void this.#allocate(ref)),
    );
    return { refs, fresh };
  }

  #source(name: string, shape: readonly number[], range?: RowRange): SourceRows {
    const info = this.info(name, shape);
    const columns = shape.length > 1 ? elements(shape.slice(1)) : (shape[0] ?? 1);
    const rows = shape.length > 1 ? (range?.count ?? shape[0] ?? 1) : 1;
    const source: SourceRows = { type: info.type, address: 0n, rows, columns };
    const at = this.#located(name, source, range);
    return { ...source, address: at.buffer.address + BigInt(at.offset) };
  }

  #located(name: string, source: SourceRows, range: RowRange | undefined): { buffer: NativeBuffer; offset: number } {
    const { buffer, offset } = this.#checkpoint.data(name);
    const block = BLOCK[source.type];
    return { buffer, offset: offset + (range?.first ?? 0) * (source.columns / block.elements) * block.bytes };
  }

  #allocate(ref: WeightRef): NativeBuffer {
    const buffer = NativeBuffer.allocate(elements(ref.shape) * (ref.type === 'u8' ? 1 : 4));
    this.#buffers.push(buffer);
    this.#tensors.set(ref.name, Tensor.of(buffer, 0, ref.type, ref.shape));
    return buffer;
  }

  /** Address of a row of a converted weight. */
  #address(ref: WeightRef, row: number): bigint {
    const rowBytes = elements(ref.shape.slice(1)) * (ref.type === 'u8' ? 1 : 4);
    return this.tensor(ref).buffer.address + BigInt(row * rowBytes);
  }

  #split(source: SourceRows, job: (part: SourceRows, firstRow: number) => ConvertJob): void {
    const block = BLOCK[source.type];
    const rowBytes = (source.columns / block.elements) * block.bytes;
    const step = Math.max(1, Math.floor(JOB_ELEMENTS / source.columns));
    for (let first = 0; first < source.rows; first += step) {
      const rows = Math.min(step, source.rows - first);
      this.#jobs.push(job({ ...source, rows, address: source.address + BigInt(first * rowBytes) }, first));
    }
  }
}

type PackedPart = [part: string, type: ElementType, shape: readonly number[]];
