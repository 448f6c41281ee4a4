/** Real graphs and tensors for tests of this package. */
import { GraphBuilder, int } from '@causeway/onnx-graph';
import { type ElementType, NativeBuffer, Tensor } from '../index.ts';

/** A tensor over memory of its own, which its disposal frees. */
export interface Owned extends Disposable {
  tensor: Tensor;
  buffer: NativeBuffer;
  f32: Float32Array;
}

/** Zeroed memory of its own for a tensor. */
export function allocate(type: ElementType, shape: readonly number[], bytesPerElement = 4): Owned {
  const buffer = NativeBuffer.allocate(Math.max(1, shape.reduce((product, dim) => product * dim, bytesPerElement)));
  const tensor = Tensor.of(buffer, 0, type, shape);
  const bytes = buffer.bytes(0, tensor.byteLength);
  return {
    tensor,
    buffer,
    f32: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2),
    [Symbol.dispose]: () => {
      tensor[Symbol.dispose]();
      buffer[Symbol.dispose]();
    },
  };
}

/** A tensor of f32 values. */
export function floats(shape: readonly number[], values: ArrayLike<number>): Owned {
  const owned = allocate('f32', shape);
  owned.f32.set(values);
  return owned;
}

/** A tensor of i32 values. */
export function int32s(shape: readonly number[], values: readonly number[]): Owned {
  const owned = allocate('i32', shape);
  new Int32Array(owned.f32.buffer, owned.f32.byteOffset, values.length).set(values);
  return owned;
}

/** y [n, 2] = x [n, 2] + x. */
export function doubling(): Uint8Array {
  const graph = new GraphBuilder('doubling');
  graph.input('x', 'f32', ['n', 2]);
  graph.rename(graph.op('Add', ['x', 'x']), 'y');
  graph.output('y', 'f32', ['n', 2]);
  return graph.serialize();
}

/** y [rows, columns] = x [rows, inner] w, with w [inner, columns] from outside. */
export function externalMatmul(inner: number, columns: number): Uint8Array {
  const graph = new GraphBuilder('matmul');
  graph.input('x', 'f32', ['rows', inner]);
  graph.external('w', 'f32', [inner, columns]);
  graph.rename(graph.op('MatMul', ['x', 'w']), 'y');
  graph.output('y', 'f32', ['rows', columns]);
  return graph.serialize();
}

/** y [size, size] = x to the power `steps + 1`: `steps` nodes, between any two of which a run can end. */
export function chain(size: number, steps: number): Uint8Array {
  const graph = new GraphBuilder('chain');
  graph.input('x', 'f32', [size, size]);
  let value = 'x';
  for (let i = 0; i < steps; i++) value = graph.op('MatMul', [value, 'x']);
  graph.rename(value, 'y');
  graph.output('y', 'f32', [size, size]);
  return graph.serialize();
}

/** One GroupQueryAttention node over a cache [1, kvHeads, slot, headDim] that past and present share. */
export function attention(heads: number, kvHeads: number, headDim: number, slot: number): Uint8Array {
  const graph = new GraphBuilder('attention');
  const cache = [1, kvHeads, slot, headDim];
  graph.input('q', 'f32', [1, 't', heads * headDim]);
  graph.input('k', 'f32', [1, 't', kvHeads * headDim]);
  graph.input('v', 'f32', [1, 't', kvHeads * headDim]);
  graph.input('past_k', 'f32', cache);
  graph.input('past_v', 'f32', cache);
  graph.input('seqlens_k', 'i32', [1]);
  graph.input('total', 'i32', [1]);
  graph.node('GroupQueryAttention', ['q', 'k', 'v', 'past_k', 'past_v', 'seqlens_k', 'total'], {
    domain: 'com.microsoft',
    attributes: { num_heads: int(heads), kv_num_heads: int(kvHeads) },
    outputs: ['y', 'present_k', 'present_v'],
  });
  graph.output('y', 'f32', [1, 't', heads * headDim]);
  graph.output('present_k', 'f32', cache);
  graph.output('present_v', 'f32', cache);
  return graph.serialize();
}
