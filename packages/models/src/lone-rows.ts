/**
 * Whether 4-bit products with int8 activations (MatMulNBits at level 4) give a row the same bits alone as among others. It depends on
 * the processor: ONNX Runtime has other kernels for AVX2, AVX2 with VNNI, AVX-512, AVX-512 with VNNI and ARM, and some of them sum a
 * lone row in another order. Where it is so, rows need no padding (linear.ts), which makes a lone decode step some 10 % cheaper.
 */
import { GraphBuilder, int } from '@causeway/onnx-graph';
import { NativeBuffer, type Runtime, Tensor } from '@causeway/ort';

/** MatMulNBits' accuracy level with activations rounded to int8. */
export const INT8_LEVEL = 4;
/**
 * How 4-bit products of a lone row are made where a graph will run: with a row of zeros beside it at either level (`differ`), or at
 * level 0 only (`alike`). `free`: never; on other chips a lone row has fast kernels of its own, and bits depend on the batch anyway.
 */
export type LoneRows = 'differ' | 'alike' | 'free';

/** Threads share rows in tiles of 128: with 130 the last two are a tile of their own. */
const ROWS = 130;
/** Counts of rows that end in a lone one, or are one, for kernels of up to 8 rows. */
const COUNTS = [1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 129];
/** Inputs and outputs: blocks in fours and what is left of them, outputs in sixteens, fours and ones. */
const SHAPES = [
  [32, 16, 19],
  [96, 32, 64],
  [288, 32, 37],
  [576, 16, 48],
  [1568, 32, 21],
] as const;

interface Product {
  inputs: number;
  group: number;
  outputs: number;
  level: number;
}

/** Numbers without pattern from -1 to 1, the same at every call. */
function fill(values: Float32Array, scale: number): void {
  let state = 0x2545_f491;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    values[i] = (state / 2 ** 31) * scale;
  }
}

function floats(buffer: NativeBuffer): Float32Array {
  const bytes = buffer.bytes();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
}

function graphOf({ inputs, group, outputs, level }: Product): Uint8Array {
  const graph = new GraphBuilder('lone rows');
  graph.input('x', 'f32', ['N', inputs]);
  const groups = inputs / group;
  const quants = graph.external('quants', 'u8', [outputs, groups, group / 2]);
  const scales = graph.external('scales', 'f32', [outputs, groups]);
  const y = graph.contrib('MatMulNBits', ['x', quants, scales], {
    K: int(inputs),
    N: int(outputs),
    bits: int(4),
    block_size: int(group),
    accuracy_level: int(level),
  });
  graph.output(graph.rename(y, 'y'), 'f32', ['N', outputs]);
  return graph.serialize();
}

/** Computes `ROWS` rows, then every count of them alone, and compares the bits. */
async function sameBits(runtime: Runtime, product: Product): Promise<boolean> {
  await using stack = new AsyncDisposableStack();
  const { inputs, group, outputs } = product;
  const groups = inputs / group;
  const allocate = (bytes: number): NativeBuffer => stack.use(NativeBuffer.allocate(bytes));
  const quants = allocate((outputs * inputs) / 2);
  const noise = new Float32Array(quants.byteLength);
  fill(noise, 128);
  quants.bytes().set(Uint8Array.from(noise, (value) => value & 255));
  const scales = allocate(outputs * groups * 4);
  fill(floats(scales), 0.02);
  const x = allocate(ROWS * inputs * 4);
  fill(floats(x), 3);
  const weights = new Map([
    ['quants', stack.use(Tensor.of(quants, 0, 'u8', [outputs, groups, group / 2]))],
    ['scales', stack.use(Tensor.of(scales, 0, 'f32', [outputs, groups]))],
  ]);
  const session = stack.use(await runtime.createSession(graphOf(product), { initializers: weights }));
  const y = allocate(ROWS * outputs * 4);
  const rows = async (first: number, count: number): Promise<Float32Array> => {
    using run = new DisposableStack();
    const binding = run.use(session.createBinding());
    binding.input('x', run.use(Tensor.of(x, first * inputs * 4, 'f32', [count, inputs])));
    binding.output('y', run.use(Tensor.of(y, 0, 'f32', [count, outputs])));
    await session.run(binding);
    return floats(y).slice(0, count * outputs);
  };
  const all = await rows(0, ROWS);
  for (const count of COUNTS) {
    const first = ROWS - count;
    const some = await rows(first, count);
    if (some.some((value, i) => value !== all[first * outputs + i])) return false;
  }
  return true;
}

/** Measures it, in some 30 ms. @throws ServiceError `runtime` with ONNX Runtime's message. */
export async function loneRowsAlike(runtime: Runtime, level: number = INT8_LEVEL): Promise<boolean> {
  for (const [inputs, group, outputs] of SHAPES) {
    if (!(await sameBits(runtime, { inputs, group, outputs, level }))) return false;
  }
  return true;
}
