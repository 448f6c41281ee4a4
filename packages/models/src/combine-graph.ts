import { GraphBuilder } from '@causeway/onnx-graph';
import { sumOfSlots } from './expert-group.ts';

/**
 * What remote experts answered, summed per token. Inputs rows f32 [N, hidden] (those that were sent), parts f32 [P, hidden] (answers) and
 * slots i64 [N, k] (the parts of each row in the order of summing, P where there is none); output `output` f32 [N, hidden]. With one
 * part per expert, in ascending order, it has the bits of `routedExperts`, which begins with rows * 0 too.
 */
export function combineGraph(hidden: number, slotsPerRow: number): Uint8Array {
  const graph = new GraphBuilder('combine');
  const rows = graph.input('rows', 'f32', ['N', hidden]);
  const parts = graph.input('parts', 'f32', ['P', hidden]);
  const slots = graph.input('slots', 'i64', ['N', slotsPerRow]);
  const start = graph.op('Mul', [rows, graph.scalar(0)]);
  graph.output(graph.rename(sumOfSlots(graph, parts, slots, hidden, slotsPerRow, start), 'output'), 'f32', ['N', hidden]);
  return graph.serialize();
}
