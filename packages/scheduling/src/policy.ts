/** Filter, score, pick: the seam of every scheduling policy. Pure and synchronous over an immutable snapshot. */
import type { Need, Snapshot, WorkerState } from './snapshot.ts';

export interface Filter {
  readonly name: string;
  /** True when the reason may pass by itself (no room now), false when only another worker helps. */
  readonly transient: boolean;
  /** Undefined keeps the worker; a text says why it is left out. */
  reject(worker: WorkerState, need: Need): string | undefined;
}

export interface Scorer {
  readonly name: string;
  /** 0 (worst) to 1 (best). */
  score(worker: WorkerState, need: Need, candidates: readonly WorkerState[]): number;
}

export interface Picker {
  readonly name: string;
  /** Best first. */
  rank(scored: readonly ScoredWorker[]): readonly ScoredWorker[];
}

export interface ScoredWorker {
  readonly worker: WorkerState;
  readonly score: number;
}

export interface Policy {
  readonly name: string;
  readonly filters: readonly Filter[];
  readonly scorers: readonly { readonly scorer: Scorer; readonly weight: number }[];
  readonly picker: Picker;
}

/** Why a worker was left out. */
export interface Rejection {
  readonly worker: string;
  readonly filter: string;
  readonly transient: boolean;
  readonly reason: string;
}

export type Choice =
  | { readonly kind: 'ranked'; readonly workers: readonly WorkerState[]; readonly rejections: readonly Rejection[] }
  /** Somebody could serve it, but not now. */
  | { readonly kind: 'busy'; readonly rejections: readonly Rejection[] }
  /** Nobody here can. */
  | { readonly kind: 'none'; readonly rejections: readonly Rejection[] };

/** Applies a policy to the workers of one role. Every filter runs before any score; ties keep the snapshot's order. */
export function choose(policy: Policy, workers: readonly WorkerState[], need: Need): Choice {
  const rejections: Rejection[] = [];
  const candidates = workers.filter((worker) => {
    const rejection = firstRejection(policy.filters, worker, need);
    if (rejection !== undefined) rejections.push(rejection);
    return rejection === undefined;
  });
  if (candidates.length > 0) {
    const scored = candidates.map((worker) => ({ worker, score: weightedScore(policy, worker, need, candidates) }));
    return { kind: 'ranked', workers: policy.picker.rank(scored).map(({ worker }) => worker), rejections };
  }
  return { kind: rejections.some((rejection) => rejection.transient) ? 'busy' : 'none', rejections };
}

/** The first lasting reason, else the first passing one: a worker that can never serve isn't waited for. */
function firstRejection(filters: readonly Filter[], worker: WorkerState, need: Need): Rejection | undefined {
  let passing: Rejection | undefined;
  for (const filter of filters) {
    if (filter.transient && passing !== undefined) continue;
    const reason = filter.reject(worker, need);
    if (reason === undefined) continue;
    const rejection = { worker: worker.id, filter: filter.name, transient: filter.transient, reason };
    if (!filter.transient) return rejection;
    passing = rejection;
  }
  return passing;
}

function weightedScore(policy: Policy, worker: WorkerState, need: Need, candidates: readonly WorkerState[]): number {
  let sum = 0;
  let weights = 0;
  for (const { scorer, weight } of policy.scorers) {
    sum += weight * Math.min(1, Math.max(0, scorer.score(worker, need, candidates)));
    weights += weight;
  }
  return weights === 0 ? 0 : sum / weights;
}

/** Highest score first; ties keep their order. */
export const highestScore: Picker = {
  name: 'highest-score',
  rank: (scored) => scored.toSorted((a, b) => b.score - a.score),
};

/** Workers of one role. */
export function ofRole(snapshot: Snapshot, role: WorkerState['role']): readonly WorkerState[] {
  return snapshot.workers.filter((worker) => worker.role === role);
}
