/** Small graphs and tensors of real numbers, for this package's tests. */
import { GraphBuilder, int } from '@causeway/onnx-graph';
import { type Binding, NativeBuffer, type Runtime, type Session, Tensor } from '../index.ts';

/** y = x + z, all f32 [N, 2]. */
export function addGraph(): Uint8Array {
  const g = new GraphBuilder('add');
  g.input('x', 'f32', ['N', 2]);
  g.input('z', 'f32', ['N', 2]);
  g.rename(g.op('Add', ['x', 'z']), 'y');
  g.output('y', 'f32', ['N', 2]);
  return g.serialize();
}

/** y = x . w, x f32 [M, k], external w f32 [k, n]. */
export function matMulGraph(k: number, n: number): Uint8Array {
  const g = new GraphBuilder('matmul');
  g.input('x', 'f32', ['M', k]);
  g.external('w', 'f32', [k, n]);
  g.rename(g.op('MatMul', ['x', 'w']), 'y');
  g.output('y', 'f32', ['M', n]);
  return g.serialize();
}

/** `nodes` products in a row, x f32 [rows, size] -> y alike: a long run, cut into nodes. */
export function longGraph(nodes: number, size: number): Uint8Array {
  const g = new GraphBuilder('long');
  g.input('x', 'f32', ['M', size]);
  g.external('w', 'f32', [size, size]);
  let value = 'x';
  for (let i = 0; i < nodes; i++) value = g.op('MatMul', [value, 'w']);
  g.rename(value, 'y');
  g.output('y', 'f32', ['M', size]);
  return g.serialize();
}

/** Causal attention of T new tokens over a cache of `capacity`, updated in place. */
export function attentionGraph(heads: number, kvHeads: number, dim: number, capacity: number): Uint8Array {
  const g = new GraphBuilder('attention');
  g.input('q', 'f32', ['B', 'T', heads * dim]);
  for (const name of ['k', 'v']) g.input(name, 'f32', ['B', 'T', kvHeads * dim]);
  for (const name of ['past_k', 'past_v']) g.input(name, 'f32', ['B', kvHeads, capacity, dim]);
  g.input('seqlens_k', 'i32', ['B']);
  g.input('total', 'i32', [1]);
  g.node('GroupQueryAttention', ['q', 'k', 'v', 'past_k', 'past_v', 'seqlens_k', 'total'], {
    domain: 'com.microsoft',
    outputs: ['y', 'present_k', 'present_v'],
    attributes: { num_heads: int(heads), kv_num_heads: int(kvHeads) },
  });
  g.output('y', 'f32', ['B', 'T', heads * dim]);
  for (const name of ['present_k', 'present_v']) g.output(name, 'f32', ['B', kvHeads, capacity, dim]);
  return g.serialize();
}

/** A tensor in a buffer of its own, and its elements as JavaScript sees them. Disposing frees both. */
export interface Numbers<T = Float32Array> extends Disposable {
  tensor: Tensor;
  buffer: NativeBuffer;
  values: T;
}

/** f32 numbers: a function of the index, or one for all. */
export function numbers(shape: readonly number[], fill: number | ((i: number) => number) = 0): Numbers {
  const buffer = NativeBuffer.allocate(4 * shape.reduce((product, dim) => product * dim, 1));
  const bytes = buffer.bytes();
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  for (let i = 0; i < values.length; i++) values[i] = typeof fill === 'number' ? fill : fill(i);
  return { ...owned(buffer, Tensor.of(buffer, 0, 'f32', shape)), values };
}

/** Whole numbers of 32 bits in a row. */
export function integers(list: readonly number[]): Numbers<Int32Array> {
  const buffer = NativeBuffer.allocate(4 * list.length);
  const bytes = buffer.bytes();
  const values = new Int32Array(bytes.buffer, bytes.byteOffset, list.length);
  values.set(list);
  return { ...owned(buffer, Tensor.of(buffer, 0, 'i32', [list.length])), values };
}

function owned(buffer: NativeBuffer, tensor: Tensor): Omit<Numbers, 'values'> {
  return {
    buffer,
    tensor,
    [Symbol.dispose]: () => {
      tensor[Symbol.dispose]();
      buffer[Symbol.dispose]();
    },
  };
}

/** A session of `longGraph`, bound: all of y is positive after a run, and -1 before. */
export interface LongSession extends AsyncDisposable {
  session: Session;
  binding: Binding;
  x: Numbers;
  y: Numbers;
}

/** `rows` sets how long a node takes. */
export async function longSession(runtime: Runtime, nodes: number, rows: number, size: number): Promise<LongSession> {
  using weights = numbers([size, size], (i) => ((i * 7919) % 13) / (6 * size));
  const session = await runtime.createSession(longGraph(nodes, size), { initializers: new Map([['w', weights.tensor]]) });
  const x = numbers([rows, size], 1);
  const y = numbers([rows, size], -1);
  const binding = session.createBinding().input('x', x.tensor).output('y', y.tensor);
  return {
    session,
    binding,
    x,
    y,
    [Symbol.asyncDispose]: async () => {
      binding[Symbol.dispose]();
      await session[Symbol.asyncDispose]();
      x[Symbol.dispose]();
      y[Symbol.dispose]();
    },
  };
}
