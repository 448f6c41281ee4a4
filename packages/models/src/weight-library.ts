/**
 * The weights that a model's graphs refer to. Builders ask for a weight in the form an operator wants; the library checks
 * name, type and shape at once. Memory is taken later, when a segment's weights are made: the mapped file is wrapped (f32, no copy), or
 * its numbers are converted into native memory. A form asked for twice, by the same or another segment, exists once.
 */
import { fail } from '@causeway/errors';
import { INT4_GROUP, INT4_GROUPS, type NamedTensors, type TensorInfo } from '@causeway/model-files';
import { ELEMENT_BYTES, type ElementType, NativeBuffer, Tensor } from '@causeway/ort';
import { BLOCK, CONVERTIBLE_TYPES, type ConvertibleType, type ConvertJob, type SourceRows } from './convert/convert-job.ts';
import { type ConvertOptions, ConvertPool } from './convert/convert-pool.ts';
import { isQuantized } from './convert/quant-formats.ts';
import { packedForm } from './convert/repack.ts';
import { sourceBytes, split } from './convert/split-rows.ts';

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

/** 4-bit codes in a word of 32. */
const CODES_PER_WORD = 8;

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
  readonly #plans = new Map<string, Plan>();
  readonly #tensors = new Map<string, Tensor>();
  readonly #threads = new ConvertPool();
  #bytes = 0;
  #convertedBytes = 0;

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
    const known = this.#refs.get(key);
    if (known !== undefined) return known;
    const source = this.#source(name, shape, range);
    const at = this.#located(name, source, range);
    const read = { ...at, byteLength: sourceBytes(source) };
    const ref: WeightRef = { name: key, type: 'f32', shape: range === undefined ? shape : [range.count, ...shape.slice(1)] };
    if (source.type === 'F32' && (at.buffer.address + BigInt(at.offset)) % 4n === 0n) {
      this.#plan({ refs: [ref], read: [read], jobs: () => [], mapped: at });
    } else {
      const jobs = (): ConvertJob[] =>
        split(source, (part, firstRow) => ({ kind: 'f32', source: part, target: this.#address(ref, firstRow) }));
      this.#plan({ refs: [ref], read: [read], jobs });
    }
    return ref;
  }

  /** The tensor as it is stored, in the mapped file itself; undefined for types and places that an operator cannot read. */
  stored(name: string, shape: readonly number[]): WeightRef | undefined {
    const source = this.#source(name, shape);
    const type = source.type === 'F16' ? 'f16' : source.type === 'BF16' ? 'bf16' : undefined;
    const at = this.#located(name, source, undefined);
    if (type === undefined || (at.buffer.address + BigInt(at.offset)) % 2n !== 0n) return undefined;
    const ref: WeightRef = { name: `${name}.${type}`, type, shape };
    const known = this.#refs.get(ref.name);
    if (known !== undefined) return known;
    this.#plan({ refs: [ref], read: [{ ...at, byteLength: sourceBytes(source) }], jobs: () => [], mapped: at });
    return ref;
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
    const name = members.map((member) => member.name).join('+');
    const part = (what: string, element: ElementType, shape: readonly number[]): WeightRef => ({
      name: `${name}.q${bits}.${what}`,
      type: element,
      shape,
    });
    const quants = part('quants', 'u8', [outputs, groups, (bits * group) / 8]);
    const scales = part('scales', 'f32', [outputs, groups]);
    const offsets = hasOffsets ? part('offsets', 'f32', [outputs, groups]) : undefined;
    const refs = [quants, scales, ...(offsets === undefined ? [] : [offsets])];
    const jobs = (): ConvertJob[] => {
      let below = 0;
      return sources.flatMap((source) => {
        const above = below;
        below += source.rows;
        return split(source, (rows, firstRow) => {
          const row = above + firstRow;
          return {
            kind: 'nbits',
            source: { ...rows, type },
            quants: this.#address(quants, row),
            scales: this.#address(scales, row),
            offsets: offsets === undefined ? undefined : this.#address(offsets, row),
          };
        });
      });
    };
    const read = members.map((member, k) => {
      const source = sources[k] as SourceRows;
      return { ...this.#located(member.name, source, undefined), byteLength: sourceBytes(source) };
    });
    if (!this.#plans.has(quants.name)) this.#plan({ refs, read, jobs });
    return { bits, group, quants, scales, offsets };
  }

  /** Whether a weight lies packed, its scales apart: see `packed`. */
  isPacked(name: string): boolean {
    return this.#checkpoint.tensors.get(name)?.type === INT4_GROUPS;
  }

  /** A packed matrix [outputs, inputs] for MatMulNBits, which has its codes in the same order. Throws as `info` does. */
  packed({ name, outputs }: BlockedMember, inputs: number): BlockedWeight {
    const found = this.#checkpoint.tensors.get(name);
    if (found !== undefined && !sameShape(found.shape, [outputs, inputs])) {
      const message = `${name} is ${shapeText(found.shape)}; its config wants ${shapeText([outputs, inputs])}`;
      fail('invalid_argument', 'wrong_shape', `${this.#checkpoint.name}: ${message}`);
    }
    const groups = inputs / INT4_GROUP;
    const quants: WeightRef = { name: `${name}.q4.quants`, type: 'u8', shape: [outputs, groups, INT4_GROUP / 2] };
    const scales: WeightRef = { name: `${name}.q4.scales`, type: 'f32', shape: [outputs, groups] };
    if (!this.#plans.has(quants.name)) {
      const codes = this.#checkpoint.data(name);
      const factors = this.#source(`${name}_scale`, [outputs, groups]);
      // Words are copied as they are.
      const address = codes.buffer.address + BigInt(codes.offset);
      const words: SourceRows = { type: 'F32', address, rows: outputs, columns: inputs / CODES_PER_WORD };
      const widened = (from: SourceRows, to: WeightRef): ConvertJob[] =>
        split(from, (source, firstRow) => ({ kind: 'f32', source, target: this.#address(to, firstRow) }));
      const at = this.#located(`${name}_scale`, factors, undefined);
      this.#plan({
        refs: [quants, scales],
        read: [codes, { ...at, byteLength: sourceBytes(factors) }],
        jobs: () => [...widened(words, quants), ...widened(factors, scales)],
      });
    }
    return { bits: 4, group: INT4_GROUP, quants, scales, offsets: undefined };
  }

  /** cos and sin tables [positions, frequencies] of `position * frequency`, times `factor`; frequencies in radians per token. */
  rotary(key: string, frequencies: readonly number[], positions: number, factor: number): { cos: WeightRef; sin: WeightRef } {
    const shape = [positions, frequencies.length];
    if (elements(shape) * 8 > MOST_ROTARY_BYTES) {
      const message = `a context of ${positions} tokens is too long: its rotary tables would pass ${MOST_ROTARY_BYTES} bytes`;
      fail('invalid_argument', 'unsupported_format', `${this.#checkpoint.name}: ${message}`);
    }
    const [cos, sin] = (['cos', 'sin'] as const).map(
      (part): WeightRef => ({ name: `${key}.rotary.${part}`, type: 'f32', shape }),
    ) as [WeightRef, WeightRef];
    const table = Float64Array.from(frequencies);
    const job = (): ConvertJob => {
      const [to, toSin] = [this.#address(cos, 0), this.#address(sin, 0)];
      return { kind: 'rotary', frequencies: table, positions, factor, cos: to, sin: toSin };
    };
    if (!this.#plans.has(cos.name))
      this.#plan({ refs: [cos, sin], read: [], jobs: () => [job()], extraBytes: elements(shape) * 8 });
    return { cos, sin };
  }

  /** Bytes that conversions read, of everything asked for so far, and how many of them are done. */
  get progress(): { done: number; total: number } {
    const plans = new Set(this.#plans.values());
    return { done: this.#convertedBytes, total: [...plans].reduce((sum, plan) => sum + plan.workBytes, 0) };
  }

  /**
   * Takes memory for these weights and converts into it, unless that was done.
   * @throws ServiceError `cancelled` or `internal`
   */
  async make(
    refs: readonly WeightRef[],
    options: { onProgress?: ((done: number, total: number) => void) | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    const plans = [...new Set(refs.map(({ name }) => this.#planOf(name)))];
    const fresh = plans.filter((plan) => plan.made === undefined);
    // Addresses are known once there is memory.
    for (const plan of fresh) {
      for (const ref of plan.refs) {
        this.#tensors.set(ref.name, plan.mapped === undefined ? allocated(ref, plan) : mapped(ref, plan.mapped));
      }
    }
    const { total } = this.progress;
    const passed: ConvertOptions = {
      signal: options.signal,
      onBytes: (bytes) => {
        this.#convertedBytes += bytes;
        options.onProgress?.(this.#convertedBytes, total);
      },
    };
    options.onProgress?.(this.#convertedBytes, total);
    const jobs = fresh.flatMap((plan) => plan.jobs());
    const made = this.#threads.run(jobs, passed);
    for (const plan of fresh) plan.made = made;
    await Promise.all([made, ...plans.map((plan) => plan.made)]);
    if (this.#convertedBytes >= total) await this.#threads[Symbol.asyncDispose]();
  }

  /** Makes every weight asked for so far. Throws as `make` does. */
  convert(options: Parameters<WeightLibrary['make']>[1] = {}): Promise<void> {
    return this.make([...this.#refs.values()], options);
  }

  /** The native tensor of a weight; its bytes are there once `make` has settled. */
  tensor(ref: WeightRef): Tensor {
    return this.#tensors.get(ref.name) ?? fail('internal', 'internal', `the weight ${ref.name} was never made`);
  }

  /** Frees the memory of these weights, and gives the file's pages that were read for them back. They can be made again. */
  free(refs: readonly WeightRef[]): void {
    for (const plan of new Set(refs.map(({ name }) => this.#planOf(name)))) {
      if (plan.made === undefined) continue;
      plan.made = undefined;
      for (const ref of plan.refs) {
        this.#tensors.get(ref.name)?.[Symbol.dispose]();
        this.#tensors.delete(ref.name);
      }
      for (const buffer of plan.buffers.splice(0)) buffer[Symbol.dispose]();
      for (const { buffer, offset, byteLength } of plan.read)
        if (buffer.ofFile && !buffer.disposed) buffer.discard(offset, byteLength);
    }
  }

  /** Frees converted weights. Mapped ones belong to the checkpoint. Idempotent. */
  [Symbol.dispose](): void {
    void this.#threads[Symbol.asyncDispose]();
    this.free([...this.#refs.values()]);
  }

  #plan(made: Pick<Plan, 'refs' | 'read' | 'jobs'> & { mapped?: Place; extraBytes?: number }): void {
    const { mapped: at, extraBytes = 0, ...rest } = made;
    const workBytes = at === undefined ? made.read.reduce((sum, { byteLength }) => sum + byteLength, extraBytes) : 0;
    const plan: Plan = { ...rest, mapped: at, workBytes, buffers: [], made: undefined };
    for (const ref of plan.refs) {
      this.#refs.set(ref.name, ref);
      this.#plans.set(ref.name, plan);
      this.#bytes += refBytes(ref);
    }
  }

  #planOf(name: string): Plan {
    return this.#plans.get(name) ?? fail('internal', 'internal', `the weight ${name} was never asked for`);
  }

  #source(name: string, shape: readonly number[], range?: RowRange): SourceRows {
    const info = this.info(name, shape);
    const columns = shape.length > 1 ? elements(shape.slice(1)) : (shape[0] ?? 1);
    const rows = shape.length > 1 ? (range?.count ?? shape[0] ?? 1) : 1;
    const source: SourceRows = { type: info.type, address: 0n, rows, columns };
    const at = this.#located(name, source, range);
    return { ...source, address: at.buffer.address + BigInt(at.offset) };
  }

  #located(name: string, source: SourceRows, range: RowRange | undefined): Place {
    const { buffer, offset } = this.#checkpoint.data(name);
    const block = BLOCK[source.type];
    return { buffer, offset: offset + (range?.first ?? 0) * (source.columns / block.elements) * block.bytes };
  }

  /** Address of a row of a converted weight. */
  #address(ref: WeightRef, row: number): bigint {
    const rowBytes = elements(ref.shape.slice(1)) * ELEMENT_BYTES[ref.type];
    return this.tensor(ref).buffer.address + BigInt(row * rowBytes);
  }
}

/** Bytes of a mapped file. */
interface Place {
  buffer: NativeBuffer;
  offset: number;
}

/** What is made together: a weight, or the parts of a packed one. */
interface Plan {
  readonly refs: readonly WeightRef[];
  /** What is read for it. */
  readonly read: readonly (Place & { byteLength: number })[];
  /** How it is converted, once there is memory. */
  readonly jobs: () => ConvertJob[];
  /** It is no copy: this is the weight. */
  readonly mapped: Place | undefined;
  /** What progress counts. */
  readonly workBytes: number;
  readonly buffers: NativeBuffer[];
  /** Settles when its bytes are there; undefined: it has no memory. */
  made: Promise<void> | undefined;
}

function refBytes({ type, shape }: WeightRef): number {
  return elements(shape) * ELEMENT_BYTES[type];
}

function allocated(ref: WeightRef, plan: Plan): Tensor {
  const buffer = NativeBuffer.allocate(refBytes(ref), { whole: true });
  plan.buffers.push(buffer);
  return Tensor.of(buffer, 0, ref.type, ref.shape);
}

function mapped(ref: WeightRef, { buffer, offset }: Place): Tensor {
  return Tensor.of(buffer, offset, ref.type, ref.shape);
}
