/**
 * Some experts of one layer as a graph of their own: what a shard computes. Requests come as pairs (row, expert) sorted by expert, so
 * that one gather and one split give each expert its rows.
 *
 *   inputs   rows f32 [R, hidden] · pair_row i64 [P] · pair_weight f32 [P, 1] · counts i64 [experts]: pairs of each expert of the group ·
 *            slots i64 [R, k]: the pairs of each row, P where there is none
 *   outputs  answers f32 [P, hidden]: weight * expert(row) of each pair · sums f32 [R, hidden]: those of a row, added in the order of slots
 */
import { fail } from '@causeway/errors';
import type { Checkpoint } from '@causeway/model-files';
import { int, type Value } from '@causeway/onnx-graph';
import type { Runtime, Tensor } from '@causeway/ort';
import { expertAnswer } from './moe-experts.ts';
import { namedTensors } from './named-tensors.ts';
import { findArchitecture } from './registry.ts';
import { SegmentBuilder } from './segment-builder.ts';
import type { Precision } from './types.ts';
import { WeightLibrary } from './weight-library.ts';
import { wideProductsOf } from './wide-products.ts';

/** The experts of a model: its layers that have some, and their sizes. */
export interface ExpertShape {
  architecture: string;
  /** Layers with routed experts, ascending. */
  layers: readonly number[];
  /** Routed experts of such a layer. */
  experts: number;
  expertsPerToken: number;
  /** Groups of the router, in which experts of one token lie; 1: none. */
  groups: number;
  hidden: number;
  inner: number;
}

/** A graph that computes some experts of a layer, with its weights. */
export interface ExpertGroup extends Disposable {
  layer: number;
  /** Ascending: the order of `counts`. */
  experts: readonly number[];
  graph: Uint8Array;
  initializers: ReadonlyMap<string, Tensor>;
  weightBytes: number;
}

/** @throws ServiceError `bad_config` when the checkpoint has no experts, `unknown_architecture`. */
export function expertShape(checkpoint: Checkpoint): ExpertShape {
  const { name: architecture } = findArchitecture(checkpoint);
  const { moe, layers, hiddenSize } = checkpoint.config;
  if (moe === undefined) return fail('invalid_argument', 'bad_config', `${checkpoint.name} has no experts to serve`);
  return {
    architecture,
    layers: Array.from({ length: layers - moe.firstDenseLayers }, (_, i) => moe.firstDenseLayers + i),
    experts: moe.experts,
    expertsPerToken: moe.expertsPerToken,
    groups: moe.groups,
    hidden: hiddenSize,
    inner: moe.expertInner,
  };
}

/** Bytes that one expert's weights take in memory, by the checkpoint's tables alone. Throws as `loadExpertGroup` does. */
export function bytesOfExpert(o: { checkpoint: Checkpoint; shape: ExpertShape; precision: Precision }): number {
  using library = new WeightLibrary(namedTensors(o.checkpoint));
  const [layer = 0] = o.shape.layers;
  buildGroup(new SegmentBuilder(`experts.${layer}`, library, o.precision), { shape: o.shape, layer, experts: [0] });
  return library.bytes;
}

/**
 * Builds the graph of these experts and converts their weights, in worker threads; reads no other tensor of the checkpoint, which
 * must stay open until the group is disposed.
 * @throws ServiceError `missing_tensor`, `wrong_shape`, `unsupported_format` or `cancelled`; nothing stays allocated then.
 */
export async function loadExpertGroup(o: {
  checkpoint: Checkpoint;
  shape: ExpertShape;
  layer: number;
  experts: readonly number[];
  precision: Precision;
  /** Where it will run: its kernels are tried, as a model's are. Default: as if the least of them were there. */
  runtime?: Runtime;
  signal?: AbortSignal | undefined;
}): Promise<ExpertGroup> {
  const { checkpoint, precision, runtime } = o;
  const tries = runtime !== undefined && precision === 'exact';
  const kernels = tries ? { wideProducts: await wideProductsOf(checkpoint, runtime) } : {};
  const library = new WeightLibrary(namedTensors(checkpoint));
  try {
    const segment = new SegmentBuilder(`experts.${o.layer}`, library, precision, kernels);
    buildGroup(segment, o);
    const draft = segment.finish({ kind: 'experts', layer: o.layer });
    await library.convert({ signal: o.signal });
    return {
      layer: o.layer,
      experts: o.experts,
      graph: draft.graph,
      initializers: new Map(draft.weights.map((ref) => [ref.name, library.tensor(ref)])),
      weightBytes: library.bytes,
      [Symbol.dispose]: () => library[Symbol.dispose](),
    };
  } catch (error) {
    library[Symbol.dispose]();
    throw error;
  }
}

function buildGroup(segment: SegmentBuilder, o: { shape: ExpertShape; layer: number; experts: readonly number[] }): void {
  const { graph } = segment;
  const { hidden, inner, expertsPerToken } = o.shape;
  const rows = graph.input('rows', 'f32', ['R', hidden]);
  const pairRow = graph.input('pair_row', 'i64', ['P']);
  const pairWeight = graph.input('pair_weight', 'f32', ['P', 1]);
  const counts = graph.input('counts', 'i64', [o.experts.length]);
  const slots = graph.input('slots', 'i64', ['R', expertsPerToken]);
  const all = graph.op('Gather', [rows, pairRow], { axis: int(0) });
  const parts =
    o.experts.length === 1
      ? [all]
      : graph.node('Split', [all, counts], { attributes: { axis: int(0) }, outputs: o.experts.length });
  const answers = o.experts.map((expert, i) =>
    expertAnswer(segment, parts[i] ?? '', `model.layers.${o.layer}.mlp.experts.${expert}`, { hidden, inner }),
  );
  const joined = answers.length === 1 ? (answers[0] ?? '') : graph.op('Concat', answers, { axis: int(0) });
  const weighted = graph.op('Mul', [joined, pairWeight]);
  segment.write({ name: 'answers', type: 'f32', shape: ['N', hidden] }, weighted);
  segment.write(
    { name: 'sums', type: 'f32', shape: ['N', hidden] },
    sumOfSlots(segment.graph, 'answers', slots, hidden, expertsPerToken),
  );
}

/**
 * Adds the parts f32 [P, hidden] that `slots` i64 [N, k] names for each row, from the first slot to the last, on top of `start`, if any:
 * [N, hidden]. P itself names a row of zeros.
 */
export function sumOfSlots(
  graph: SegmentBuilder['graph'],
  parts: Value,
  slots: Value,
  hidden: number,
  slotsPerRow: number,
  start?: Value,
): Value {
  const zeros = graph.constant('zeros', 'f32', [1, hidden], new Float32Array(hidden));
  const padded = graph.op('Concat', [parts, zeros], { axis: int(0) });
  let sum = start;
  for (let slot = 0; slot < slotsPerRow; slot++) {
    const chosen = graph.op('Gather', [slots, graph.constant(`slot.${slot}`, 'i64', [], BigInt64Array.of(BigInt(slot)))], {
      axis: int(1),
    });
    const part = graph.op('Gather', [padded, chosen], { axis: int(0) });
    sum = sum === undefined ? part : graph.op('Add', [sum, part]);
  }
  return sum ?? fail('internal', 'internal', 'a token has no expert');
}
