/**
 * Builds one ONNX graph node by node. Values are named strings; every name is written once and must exist before it is
 * read, so a finished graph is topologically sorted by construction.
 */
import { fail } from '@causeway/errors';
import type { Attributes } from './attribute.ts';
import { ONNX_ELEMENT_BYTES, type OnnxElementType } from './element-type.ts';
import { type Dim, type InitializerSpec, type NodeSpec, serializeModel, type ValueInfo } from './model-proto.ts';

/** IR and operator set versions of every graph Causeway writes. */
export const IR_VERSION = 10;
export const OPSETS: Readonly<Record<string, number>> = { '': 23, 'com.microsoft': 1 };

/** Name of a value in the graph. */
export type Value = string;

/** An optional input or output that is left out. */
export const OMITTED: Value = '';

export interface NodeOptions {
  attributes?: Attributes;
  /** Default ai.onnx. */
  domain?: '' | 'com.microsoft';
  /** Names of the outputs, `OMITTED` allowed; or how many to name automatically. Default 1. */
  outputs?: number | readonly Value[];
}

function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
}

export class GraphBuilder {
  readonly name: string;
  readonly #nodes: NodeSpec[] = [];
  readonly #inputs: ValueInfo[] = [];
  readonly #outputs: ValueInfo[] = [];
  readonly #initializers: InitializerSpec[] = [];
  readonly #known = new Set<Value>();
  readonly #constants = new Map<string, Value>();
  #counter = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** Declares a graph input. Throws ServiceError `internal` when the name is taken. */
  input(name: string, type: OnnxElementType, shape: readonly Dim[]): Value {
    this.#define(name);
    this.#inputs.push({ name, type, shape });
    return name;
  }

  /** Declares an existing value to be a graph output, under its own name. */
  output(name: Value, type: OnnxElementType, shape: readonly Dim[]): void {
    this.#require(name, 'graph output');
    this.#outputs.push({ name, type, shape });
  }

  /** A weight that the session gets from outside the model bytes. */
  external(name: string, type: OnnxElementType, shape: readonly number[]): Value {
    this.#define(name);
    this.#initializers.push({ name, type, shape, data: undefined });
    return name;
  }

  /** A small initialiser inside the model bytes; the data are copied and must fill the shape. */
  constant(name: string, type: OnnxElementType, shape: readonly number[], data: ArrayBufferView): Value {
    const expected = shape.reduce((product, dim) => product * dim, 1) * ONNX_ELEMENT_BYTES[type];
    if (data.byteLength !== expected) {
      fail('internal', 'internal', `constant ${name} of graph ${this.name}: ${data.byteLength} bytes for a shape of ${expected}`);
    }
    this.#define(name);
    this.#initializers.push({ name, type, shape, data: bytesOf(data) });
    return name;
  }

  /** A one-dimensional i64 constant (shapes, axes, indices); equal ones are shared. */
  int64s(...values: number[]): Value {
    return this.#shared(`i64:${values.join(',')}`, (name) =>
      this.constant(name, 'i64', [values.length], BigInt64Array.from(values.map(BigInt))),
    );
  }

  /** A scalar f32 constant; equal ones are shared. */
  scalar(value: number): Value {
    return this.#shared(`f32:${value}`, (name) => this.constant(name, 'f32', [], Float32Array.of(value)));
  }

  /** Adds a node and returns all its output names. */
  node(opType: string, inputs: readonly Value[], options: NodeOptions = {}): readonly Value[] {
    for (const input of inputs) if (input !== OMITTED) this.#require(input, opType);
    const wanted = options.outputs ?? 1;
    const name = `${opType}_${this.#counter++}`;
    const outputs =
      typeof wanted === 'number' ? Array.from({ length: wanted }, (_, i) => (wanted === 1 ? name : `${name}.${i}`)) : wanted;
    for (const output of outputs) if (output !== OMITTED) this.#define(output);
    this.#nodes.push({ name, opType, domain: options.domain ?? '', inputs, outputs, attributes: options.attributes ?? {} });
    return outputs;
  }

  /** Adds an ai.onnx node with one output. */
  op(opType: string, inputs: readonly Value[], attributes: Attributes = {}): Value {
    return this.node(opType, inputs, { attributes })[0] ?? OMITTED;
  }

  /** Adds a com.microsoft node with one output. */
  contrib(opType: string, inputs: readonly Value[], attributes: Attributes = {}): Value {
    return this.node(opType, inputs, { attributes, domain: 'com.microsoft' })[0] ?? OMITTED;
  }

  /** Gives an existing value a second, chosen name (an Identity node). */
  rename(value: Value, name: Value): Value {
    return this.node('Identity', [value], { outputs: [name] })[0] ?? OMITTED;
  }

  /** The serialised ModelProto. */
  serialize(): Uint8Array {
    return serializeModel({
      name: this.name,
      irVersion: IR_VERSION,
      opsets: OPSETS,
      nodes: this.#nodes,
      inputs: this.#inputs,
      outputs: this.#outputs,
      initializers: this.#initializers,
    });
  }

  #shared(key: string, create: (name: string) => Value): Value {
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const value = create(`constant_${this.#constants.size}`);
    this.#constants.set(key, value);
    return value;
  }

  #define(name: Value): void {
    if (name === OMITTED) fail('internal', 'internal', `graph ${this.name}: a value needs a name`);
    if (this.#known.has(name)) fail('internal', 'internal', `graph ${this.name}: the value ${name} is defined twice`);
    this.#known.add(name);
  }

  #require(name: Value, reader: string): void {
    if (!this.#known.has(name))
      fail('internal', 'internal', `graph ${this.name}: ${reader} reads ${name}, which nothing defines`);
  }
}
