import { int, type Value } from '@causeway/onnx-graph';
import { matMulTransposed } from './linear.ts';
import type { SegmentBuilder } from './segment-builder.ts';

export interface SoftmaxRouter {
  /** Prefix of `weight`. */
  name: string;
  hidden: number;
  experts: number;
  expertsPerToken: number;
  /** The weights of the chosen sum to 1. */
  normalize: boolean;
  scale: number;
}

export interface GroupedSigmoidRouter extends SoftmaxRouter {
  /** Prefix of `weight` and `e_score_correction_bias`. */
  name: string;
  groups: number;
  groupsPerToken: number;
}

/** Larger than any score; added to those that must not be chosen. */
const EXCLUDED = -1e30;
/** DeepSeek's floor of the sum of chosen scores. */
const SUM_FLOOR = 1e-20;

/** biased [N, experts] with the experts outside each row's best groups pushed out of reach. */
function keepBestGroups(segment: SegmentBuilder, biased: Value, o: GroupedSigmoidRouter): Value {
  const { graph } = segment;
  const perGroup = o.experts / o.groups;
  const grouped = graph.op('Reshape', [biased, graph.int64s(-1, o.groups, perGroup)]);
  const [best = ''] = graph.node('TopK', [grouped, graph.int64s(Math.min(2, perGroup))], {
    attributes: { axis: int(-1) },
    outputs: 2,
  });
  const groupScores = graph.op('ReduceSum', [best, graph.int64s(2)], { keepdims: int(0) });
  const [, chosen = ''] = graph.node('TopK', [groupScores, graph.int64s(o.groupsPerToken)], {
    attributes: { axis: int(-1) },
    outputs: 2,
  });
  const all = graph.constant(
    `${o.name}.groups`,
    'i64',
    [1, 1, o.groups],
    BigInt64Array.from({ length: o.groups }, (_, i) => BigInt(i)),
  );
  const hits = graph.op('Cast', [graph.op('Equal', [graph.op('Unsqueeze', [chosen, graph.int64s(2)]), all])], { to: int(1) });
  const kept = graph.op('ReduceMax', [hits, graph.int64s(1)], { keepdims: int(0) });
  const penalty = graph.op('Mul', [graph.op('Sub', [graph.scalar(1), kept]), graph.scalar(EXCLUDED)]);
  const masked = graph.op('Add', [grouped, graph.op('Unsqueeze', [penalty, graph.int64s(2)])]);
  return graph.op('Reshape', [masked, graph.int64s(-1, o.experts)]);
}

/**
 * DeepSeek-V3's auxiliary-loss-free routing (arXiv 2412.19437, section 2.1.2), in f32: scores = sigmoid(W x); experts are
 * chosen by score + correction bias inside the groups whose two best sum highest; weights are the plain scores of the chosen,
 * normalised to sum 1 and scaled. x [N, hidden] gives ids i64 [N, k] and weights f32 [N, k].
 */
export function groupedSigmoidRouter(segment: SegmentBuilder, x: Value, o: GroupedSigmoidRouter): { ids: Value; weights: Value } {
  const { graph, library } = segment;
  const scores = graph.op('Sigmoid', [matMulTransposed(segment, x, library.f32(`${o.name}.weight`, [o.experts, o.hidden]))]);
  const bias = segment.weight(library.f32(`${o.name}.e_score_correction_bias`, [o.experts]));
  const biased = graph.op('Add', [scores, bias]);
  const candidates = o.groups > 1 ? keepBestGroups(segment, biased, o) : biased;
  const [, ids = ''] = graph.node('TopK', [candidates, graph.int64s(o.expertsPerToken)], {
    attributes: { axis: int(-1) },
    outputs: 2,
  });
  const chosen = graph.op('GatherElements', [scores, ids], { axis: int(1) });
  if (!o.normalize) return { ids, weights: graph.op('Mul', [chosen, graph.scalar(o.scale)]) };
  const sum = graph.op('ReduceSum', [chosen, graph.int64s(1)], { keepdims: int(1) });
  const shares = graph.op('Div', [chosen, graph.op('Add', [sum, graph.scalar(SUM_FLOOR)])]);
  return { ids, weights: graph.op('Mul', [shares, graph.scalar(o.scale)]) };
}

/**
 * The plain routing of Qwen3-MoE (modeling_qwen3_moe.py), in f32: the best experts by softmax(W x), weighted by it. x [N, hidden]
 * gives ids i64 [N, k] and weights f32 [N, k].
 */
export function softmaxRouter(segment: SegmentBuilder, x: Value, o: SoftmaxRouter): { ids: Value; weights: Value } {
  const { graph, library } = segment;
  const scores = matMulTransposed(segment, x, library.f32(`${o.name}.weight`, [o.experts, o.hidden]));
  const shares = graph.op('Softmax', [scores], { axis: int(-1) });
  const [chosen = '', ids = ''] = graph.node('TopK', [shares, graph.int64s(o.expertsPerToken)], {
    attributes: { axis: int(-1) },
    outputs: 2,
  });
  const sum = o.normalize ? graph.op('ReduceSum', [chosen, graph.int64s(1)], { keepdims: int(1) }) : undefined;
  const weights = sum === undefined ? chosen : graph.op('Div', [chosen, sum]);
  return { ids, weights: o.scale === 1 ? weights : graph.op('Mul', [weights, graph.scalar(o.scale)]) };
}
