/**
 * Whether 4-bit products with int8 activations (MatMulNBits at level 4) give a row the same bits alone as among others. It depends on
 * the processor: ONNX Runtime has other kernels for AVX2, AVX2 with VNNI, AVX-512, AVX-512 with VNNI and ARM, and some of them sum a
 * lone row in another order. Where it is so, rows need no padding (linear.ts), which makes a lone decode step some 10 % cheaper.
 */
import { GraphBuilder, int } from '@causeway/onnx-graph';
import type { Runtime } from '@causeway/ort';
import { KernelTrial, TRIAL_SHAPES } from './kernel-trial.ts';

/** MatMulNBits' accuracy level with activations rounded to int8. */
export const INT8_LEVEL = 4;
/**
 * How 4-bit products of a lone row are made where a graph will run: with a row of zeros beside it at either level (`differ`), or at
 * level 0 only (`alike`). `free`: never; on other chips a lone row has fast kernels of its own, and bits depend on the batch anyway.
 */
export type LoneRows = 'differ' | 'alike' | 'free';

interface Product {
  inputs: number;
  group: number;
  outputs: number;
  level: number;
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

/** Measures it, in some 30 ms. @throws ServiceError `runtime` with ONNX Runtime's message. */
export async function loneRowsAlike(runtime: Runtime, level: number = INT8_LEVEL): Promise<boolean> {
  for (const [inputs, group, outputs] of TRIAL_SHAPES) {
    await using trial = await KernelTrial.create(
      runtime,
      { inputs, group, outputs, bits: 4 },
      graphOf({ inputs, group, outputs, level }),
    );
    if (!(await trial.rowsAlike())) return false;
  }
  return true;
}
