/**
 * Products of 8-bit weights with f32 inputs. ONNX Runtime's kernels for 8-bit weights round inputs to int8; those that don't are some
 * thirty times slower than f32 products, and f32 weights take four times the memory. So an input is written as three numbers of 8 bits
 * per block, each what the one before leaves over: together they have the 24 bits of an f32 next to its block's largest. The kernel
 * rounds none of them, and the sum of its three products is the product. Three rows of one product are read with each weight once, so
 * that a lone row is faster than with f32 weights; many rows take two to three times as long.
 */
import { GraphBuilder, int, type Value } from '@causeway/onnx-graph';
import type { NamedTensors } from '@causeway/model-files';
import type { Runtime } from '@causeway/ort';
import { isQuantized } from './convert/quant-formats.ts';
import { packedForm } from './convert/repack.ts';
import { KernelTrial, TRIAL_ROWS, TRIAL_SHAPES } from './kernel-trial.ts';
import { INT8_LEVEL } from './lone-rows.ts';

/** How weights of 5 to 8 bits are multiplied in `exact`: in 8 bits with inputs in three parts, or widened to f32. */
export type WideProducts = 'parts' | 'f32';

const PARTS = 3;
/** The largest int8: what a block's largest number becomes. */
const MOST = 127;
/** Keeps a block of zeros from being divided by its largest. */
const LEAST_SCALE = 1e-30;

/** Writes x [N, inputs] as parts [3, N, inputs]: int8 times a scale of their block each, the largest first. */
export function int8Parts(graph: GraphBuilder, x: Value, inputs: number, group: number): Value {
  let rest = graph.op('Reshape', [graph.op('Unsqueeze', [x, graph.int64s(0)]), graph.int64s(0, 0, inputs / group, group)]);
  const parts: Value[] = [];
  for (let i = 0; i < PARTS; i++) {
    const largest = graph.op('ReduceMax', [graph.op('Abs', [rest]), graph.int64s(3)], { keepdims: int(1) });
    const scale = graph.op('Max', [graph.op('Div', [largest, graph.scalar(MOST)]), graph.scalar(LEAST_SCALE)]);
    const part = graph.op('Mul', [graph.op('Round', [graph.op('Div', [rest, scale])]), scale]);
    parts.push(part);
    if (i < PARTS - 1) rest = graph.op('Sub', [rest, part]);
  }
  return graph.op('Reshape', [graph.op('Concat', parts, { axis: int(0) }), graph.int64s(0, 0, inputs)]);
}

/** [N, outputs] from the products [3, N, outputs] of the parts. */
export function sumOfParts(graph: GraphBuilder, products: Value): Value {
  return graph.op('ReduceSum', [products, graph.int64s(0)], { keepdims: int(0) });
}

/** Largest difference from the f64 product, against the largest result of the row: a few times what f32 kernels show. */
const TOLERANCE = 1e-5;

function graphOf(inputs: number, group: number, outputs: number): Uint8Array {
  const graph = new GraphBuilder('wide products');
  graph.input('x', 'f32', ['N', inputs]);
  const groups = inputs / group;
  const quants = graph.external('quants', 'u8', [outputs, groups, group]);
  const scales = graph.external('scales', 'f32', [outputs, groups]);
  const products = graph.contrib('MatMulNBits', [int8Parts(graph, 'x', inputs, group), quants, scales], {
    K: int(inputs),
    N: int(outputs),
    bits: int(8),
    block_size: int(group),
    accuracy_level: int(INT8_LEVEL),
  });
  graph.output(graph.rename(sumOfParts(graph, products), 'y'), 'f32', ['N', outputs]);
  return graph.serialize();
}

/** Whether results are those of f64, up to f32's rounding. */
async function close(trial: KernelTrial): Promise<boolean> {
  const { x, quants, scales } = trial;
  const { inputs, group, outputs } = trial.shape;
  const found = await trial.rows(0, TRIAL_ROWS);
  for (let row = 0; row < TRIAL_ROWS; row++) {
    let largest = 0;
    let worst = 0;
    for (let output = 0; output < outputs; output++) {
      let sum = 0;
      for (let k = 0; k < inputs; k++) {
        const at = output * inputs + k;
        sum += (x[row * inputs + k] ?? 0) * (scales[Math.floor(at / group)] ?? 0) * ((quants[at] ?? 0) - 128);
      }
      largest = Math.max(largest, Math.abs(sum));
      worst = Math.max(worst, Math.abs(sum - (found[row * outputs + output] ?? Number.NaN)));
    }
    // Written so that not-a-number fails too.
    if (!(worst <= TOLERANCE * largest)) return false;
  }
  return true;
}

const tried = new WeakMap<Runtime, Promise<WideProducts>>();

/** How weights of 5 to 8 bits of a checkpoint are multiplied in a runtime, tried once in each; `f32` when it has none. Throws as `wideProducts`. */
export function wideProductsOf({ tensors }: Pick<NamedTensors, 'tensors'>, runtime: Runtime): Promise<WideProducts> {
  if (![...tensors.values()].some(({ type }) => isQuantized(type) && packedForm(type).bits === 8)) return Promise.resolve('f32');
  const result = tried.get(runtime) ?? wideProducts(runtime);
  tried.set(runtime, result);
  return result;
}

/**
 * Tries on this processor whether parts give f32's results, and a row the same bits alone as among others; in some 50 ms.
 * @throws ServiceError `runtime` with ONNX Runtime's message
 */
export async function wideProducts(runtime: Runtime): Promise<WideProducts> {
  for (const [inputs, group, outputs] of TRIAL_SHAPES) {
    const shape = { inputs, group, outputs, bits: 8 } as const;
    await using trial = await KernelTrial.create(runtime, shape, graphOf(inputs, group, outputs), { extremes: true });
    if (!(await close(trial)) || !(await trial.rowsAlike())) return 'f32';
  }
  return 'parts';
}
