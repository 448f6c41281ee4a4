import type { Value } from '@causeway/onnx-graph';
import { routedExperts } from './moe-experts.ts';
import type { Residual } from './rms-norm.ts';
import { type SegmentBuilder, tokenRows } from './segment-builder.ts';
import type { LiveValue, SegmentChain } from './segment-chain.ts';
import { swigluMlp } from './swiglu.ts';
import type { ValueSpec } from './types.ts';

export interface Mixture {
  layer: number;
  hidden: number;
  experts: number;
  expertsPerToken: number;
  /** Inner width of a routed expert. */
  inner: number;
  /** Inner width of the shared experts together; 0: there are none. */
  sharedInner: number;
  /** Chooses experts for rows x [N, hidden]: ids i64 and weights f32 [N, expertsPerToken]. */
  route(segment: SegmentBuilder, x: Value): { ids: Value; weights: Value };
}

/**
 * The mixture of experts of a layer, `model.layers.<layer>.mlp`: ends the segment at the router; the experts get their own; the next
 * one combines them with the shared experts. Where experts are remote the shared ones get a segment too: it runs meanwhile.
 */
export function mixture(chain: SegmentChain, normed: Value, before: Value, o: Mixture): Residual {
  const { layer, hidden } = o;
  const name = `model.layers.${layer}.mlp`;
  const spec = (part: string, type: 'f32' | 'i64', width: number): ValueSpec => ({
    name: `moe.${layer}.${part}`,
    type,
    shape: tokenRows(width),
  });
  const rows = spec('rows', 'f32', hidden);
  const ids = spec('ids', 'i64', o.expertsPerToken);
  const weights = spec('weights', 'f32', o.expertsPerToken);
  const output = spec('output', 'f32', hidden);
  const kept = spec('residual', 'f32', hidden);
  const whole = [
    { ...rows, value: normed },
    { ...kept, value: before },
  ];
  const apart = chain.gate(layer, whole);
  const x = apart ? chain.current.read(rows) : normed;
  const residual = apart ? kept.name : before;
  const router = o.route(chain.current, x);
  const live = [
    { ...rows, value: x },
    { ...ids, value: router.ids },
    { ...weights, value: router.weights },
    { ...kept, value: residual },
  ] satisfies [LiveValue, ...LiveValue[]];
  if (chain.expertsAreRemote) {
    chain.remoteExperts(layer, live, output);
    const delta = addShared(chain, name, o, { rows, output, shared: spec('shared', 'f32', hidden) });
    return { residual: chain.current.read(kept), delta };
  }
  chain.experts(layer, live, (segment) => {
    const routed = { rows: segment.read(rows), ids: segment.read(ids), weights: segment.read(weights) };
    const shape = { hidden, inner: o.inner, experts: o.experts };
    segment.write(output, routedExperts(segment, routed, { name: `${name}.experts`, ...shape }));
  });
  const next = chain.current;
  const routed = next.read(output);
  if (o.sharedInner === 0) return { residual: next.read(kept), delta: routed };
  const shared = swigluMlp(next, next.read(rows), `${name}.shared_experts`, hidden, o.sharedInner);
  return { residual: next.read(kept), delta: next.graph.op('Add', [routed, shared]) };
}

/** The remote experts' sum, and with it the shared experts', which a segment of their own computes. */
function addShared(
  chain: SegmentChain,
  name: string,
  { hidden, sharedInner }: Mixture,
  specs: { rows: ValueSpec; output: ValueSpec; shared: ValueSpec },
): Value {
  if (sharedInner === 0) return chain.current.read(specs.output);
  const aside = chain.current;
  const value = swigluMlp(aside, aside.read(specs.rows), `${name}.shared_experts`, hidden, sharedInner);
  chain.part([{ ...specs.shared, value }]);
  const next = chain.current;
  return next.graph.op('Add', [next.read(specs.output), next.read(specs.shared)]);
}
