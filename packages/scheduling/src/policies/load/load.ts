import type { Scorer } from '../../policy.ts';
import type { Need, WorkerState } from '../../snapshot.ts';

/** Prefill speed assumed of a worker that has measured none, tokens/s; only ratios between workers matter. */
const UNMEASURED_PREFILL_RATE = 1000;

/** Seconds until a prompt given now would be read: outstanding prompt tokens, its own included, over the measured rate. */
export function prefillSeconds(worker: WorkerState, need: Need): number {
  const outstanding = Math.max(worker.load.queuedPromptTokens, worker.given.promptTokens) + need.promptTokens;
  return outstanding / (worker.rates.prefillTokensPerSecond || UNMEASURED_PREFILL_RATE);
}

/** Least outstanding prefill work: 1 for the least among the candidates, in proportion for the others. */
export const prefillLoad: Scorer = {
  name: 'load',
  score: (worker, need, candidates) => {
    const least = Math.min(...candidates.map((candidate) => prefillSeconds(candidate, need)));
    const own = prefillSeconds(worker, need);
    return own <= 0 ? 1 : least / own;
  },
};

/** Share of a decode worker that would be taken with this request: of its sequences or of its pages, whichever is scarcer; above 1 when sequences wait. */
export function decodeOccupancy(worker: WorkerState, need: Need): number {
  const { capacity, load } = worker;
  const requests = Math.max(worker.given.requests, load.running + load.waiting) + need.sequences;
  // Further answers share the prompt's whole blocks.
  const pages = Math.ceil((need.promptTokens + 1) / capacity.blockTokens) + need.sequences - 1;
  const usedPages = capacity.totalPages - load.freePages + pages;
  return Math.max(requests / capacity.maxSequences, usedPages / capacity.totalPages);
}

/** Least outstanding decode work: 1 for an empty worker, 0.5 for one that this request would fill, less when it would wait. */
export const decodeLoad: Scorer = {
  name: 'load',
  score: (worker, need) => 1 / (1 + decodeOccupancy(worker, need)),
};
