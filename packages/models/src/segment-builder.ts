/**
 * One graph segment under construction: declares reserved inputs when they are first used, caches by layer, weights by
 * reference and intermediates by name, and remembers all of them for the segment's description.
 */
import { fail } from '@causeway/errors';
import type { KvWireForm } from '@causeway/kv';
import { GraphBuilder, type Value } from '@causeway/onnx-graph';
import type { LoneRows } from './lone-rows.ts';
import type { WideProducts } from './wide-products.ts';
import type { Precision, SegmentKind, SymbolicDim, ValueSpec } from './types.ts';
import type { WeightLibrary, WeightRef } from './weight-library.ts';

/** Inputs that the executor fills at every run. */
const RESERVED = {
  token_ids: { type: 'i64', shape: ['B', 'T'] },
  position_ids: { type: 'i64', shape: ['B', 'T'] },
  seqlens_k: { type: 'i32', shape: ['B'] },
  total_sequence_length: { type: 'i32', shape: [1] },
  logit_rows: { type: 'i64', shape: ['R'] },
} as const satisfies Record<string, Omit<ValueSpec, 'name'>>;
export type ReservedInput = keyof typeof RESERVED;

/** A finished segment; its weights are still references. */
export interface SegmentDraft {
  name: string;
  content: SegmentKind;
  graph: Uint8Array;
  weights: readonly WeightRef[];
  inputs: readonly ValueSpec[];
  outputs: readonly ValueSpec[];
  cacheLayers: readonly number[];
}

/** How products are made where a graph will run; what is left out: as if the least kernels were there. */
export interface SegmentKernels {
  loneRows?: LoneRows | undefined;
  wideProducts?: WideProducts | undefined;
}

export class SegmentBuilder {
  readonly graph: GraphBuilder;
  readonly library: WeightLibrary;
  readonly precision: Precision;
  /** What new keys and values are rounded to before attention. */
  readonly kvRounding: KvWireForm | undefined;
  /** How products of a lone row are made (lone-rows.ts). */
  readonly loneRows: LoneRows;
  /** How weights of 5 to 8 bits are multiplied in `exact` (wide-products.ts). */
  readonly wideProducts: WideProducts;
  readonly #inputs = new Map<string, ValueSpec>();
  readonly #outputs: ValueSpec[] = [];
  readonly #weights = new Map<string, WeightRef>();
  readonly #cacheLayers: number[] = [];
  readonly #derived = new Map<string, Value>();

  constructor(
    name: string,
    library: WeightLibrary,
    precision: Precision,
    { loneRows = 'differ', wideProducts = 'f32' }: SegmentKernels = {},
    kvRounding?: KvWireForm,
  ) {
    this.graph = new GraphBuilder(name);
    this.library = library;
    this.precision = precision;
    this.loneRows = loneRows;
    this.wideProducts = wideProducts;
    this.kvRounding = kvRounding;
  }

  /** The graph runs on a chip that is no CPU, whose provider has other kernels. */
  get onDevice(): boolean {
    return this.loneRows === 'free';
  }

  reserved(name: ReservedInput): Value {
    return this.read({ name, ...RESERVED[name] });
  }

  /** Reads an intermediate that an earlier segment writes. */
  read(spec: ValueSpec): Value {
    if (!this.#inputs.has(spec.name)) {
      this.#inputs.set(spec.name, spec);
      this.graph.input(spec.name, spec.type, spec.shape);
    }
    return spec.name;
  }

  /** Writes an intermediate or the logits under a chosen name. */
  write(spec: ValueSpec, value: Value): void {
    this.graph.output(this.graph.rename(value, spec.name), spec.type, spec.shape);
    this.#outputs.push(spec);
  }

  weight(ref: WeightRef): Value {
    if (!this.#weights.has(ref.name)) {
      this.#weights.set(ref.name, ref);
      this.graph.external(ref.name, ref.type, ref.shape);
    }
    return ref.name;
  }

  /** Declares past_k/past_v [B, heads, S, width] of a layer; `present` names the outputs that must go to the same memory. */
  cache(
    layer: number,
    heads: number,
    width: number,
  ): { past: [Value, Value]; present: [Value, Value]; declarePresent: () => void } {
    if (this.#cacheLayers.includes(layer))
      fail('internal', 'internal', `segment ${this.graph.name}: layer ${layer} has two caches`);
    this.#cacheLayers.push(layer);
    const shape = ['B', heads, 'S', width];
    const present: [Value, Value] = [`present_k.${layer}`, `present_v.${layer}`];
    return {
      past: [this.graph.input(`past_k.${layer}`, 'f32', shape), this.graph.input(`past_v.${layer}`, 'f32', shape)],
      present,
      declarePresent: () => present.forEach((name) => this.graph.output(name, 'f32', shape)),
    };
  }

  /** A value computed once per segment however many readers it has (block sums of an input, a shape). */
  derived(key: string, make: () => Value): Value {
    const known = this.#derived.get(key);
    if (known !== undefined) return known;
    const value = make();
    this.#derived.set(key, value);
    return value;
  }

  finish(content: SegmentKind): SegmentDraft {
    return {
      name: this.graph.name,
      content,
      graph: this.graph.serialize(),
      weights: [...this.#weights.values()],
      inputs: [...this.#inputs.values()],
      outputs: this.#outputs,
      cacheLayers: this.#cacheLayers,
    };
  }
}

/** Shape of hidden states and everything else that has one row per token. */
export const tokenRows = (width: number): readonly SymbolicDim[] => ['N', width];
