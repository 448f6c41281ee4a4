import { choose, type Choice, ofRole, type Rejection } from '../policy.ts';
import { leastOutstandingDecode, leastOutstandingPrefill } from '../policies/least-outstanding-work/least-outstanding-work.ts';
import type { Need, Snapshot, WorkerState } from '../snapshot.ts';
import type { PlacementDecision } from './decide-placement.ts';

/** What to do with a request now. */
export type PlanDecision =
  | { readonly kind: 'disaggregated'; readonly prefill: WorkerState; readonly decode: WorkerState }
  | { readonly kind: 'local'; readonly decode: WorkerState }
  /** Workers exist, all of them full: wait for a place. */
  | { readonly kind: 'busy'; readonly rejections: readonly Rejection[] }
  /** Nobody can serve it, waiting doesn't help unless a worker joins. */
  | { readonly kind: 'none'; readonly missing: 'prefill' | 'decode'; readonly rejections: readonly Rejection[] };

/**
 * Chooses the workers of one attempt. A placement decided by length falls back to local when no prefill worker can serve
 * at all (not when they are merely busy); one that the request or the configuration fixed does not.
 */
export function planAttempt(snapshot: Snapshot, need: Need, placement: PlacementDecision): PlanDecision {
  const decodeWorkers = ofRole(snapshot, 'decode');
  const anyDecode = choose(leastOutstandingDecode(), decodeWorkers, need);
  if (anyDecode.kind !== 'ranked') return unserved(anyDecode, 'decode');
  const [leastBusy] = anyDecode.workers;
  if (placement.mode === 'local' && leastBusy !== undefined) return { kind: 'local', decode: leastBusy };

  const prefill = choose(leastOutstandingPrefill, ofRole(snapshot, 'prefill'), need);
  const pair = prefill.kind === 'ranked' ? firstPair(prefill.workers, decodeWorkers, need, snapshot.exchange) : undefined;
  if (pair?.kind === 'disaggregated' || pair?.kind === 'busy') return pair;
  if (prefill.kind === 'busy') return { kind: 'busy', rejections: prefill.rejections };
  if (placement.by === 'length' && leastBusy !== undefined) return { kind: 'local', decode: leastBusy };
  return pair ?? { kind: 'none', missing: 'prefill', rejections: prefill.rejections };
}

function unserved(choice: Exclude<Choice, { kind: 'ranked' }>, missing: 'prefill' | 'decode'): PlanDecision {
  return choice.kind === 'busy'
    ? { kind: 'busy', rejections: choice.rejections }
    : { kind: 'none', missing, rejections: choice.rejections };
}

/** The best prefill worker that has a decode worker that can take its KV; busy when only room is missing. */
function firstPair(
  prefills: readonly WorkerState[],
  decodes: readonly WorkerState[],
  need: Need,
  exchange: Snapshot['exchange'],
): PlanDecision {
  let last: PlanDecision = { kind: 'none', missing: 'decode', rejections: [] };
  for (const prefill of prefills) {
    const choice = choose(leastOutstandingDecode(prefill, exchange), decodes, need);
    const [decode] = choice.kind === 'ranked' ? choice.workers : [];
    if (decode !== undefined) return { kind: 'disaggregated', prefill, decode };
    if (choice.kind !== 'ranked' && last.kind !== 'busy') last = unserved(choice, 'decode');
  }
  return last;
}

/** One line per worker left out, for a message: `decode-0 has 16 of 16 requests`. */
export function explainRejections(rejections: readonly Rejection[], limit = 4): string {
  const lines = rejections.slice(0, limit).map(({ worker, reason }) => `${worker} ${reason}`);
  const more = rejections.length > limit ? `, and ${rejections.length - limit} more` : '';
  return lines.join(', ') + more;
}
