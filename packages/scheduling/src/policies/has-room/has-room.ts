import type { Filter } from '../../policy.ts';

/** Most requests that this router gives a prefill worker at once: one running, one waiting. */
export const PREFILL_PLACES = 2;
/** A decode worker may have this many requests per sequence it can run: one batch running, one waiting. */
export const DECODE_WAITING_FACTOR = 2;

/** Keeps prefill workers with a free place in this router's hands. Other routers' places are theirs; their load shows in the score. */
export const prefillHasRoom: Filter = {
  name: 'has-room',
  transient: true,
  reject: (worker) =>
    worker.given.requests < PREFILL_PLACES ? undefined : `has ${worker.given.requests} of ${PREFILL_PLACES} places taken`,
};

/** Keeps decode workers whose line isn't longer than what they run. */
export const decodeHasRoom: Filter = {
  name: 'has-room',
  transient: true,
  reject: (worker) => {
    const outstanding = Math.max(worker.given.requests, worker.load.running + worker.load.waiting);
    const limit = worker.capacity.maxSequences * DECODE_WAITING_FACTOR;
    return outstanding < limit ? undefined : `has ${outstanding} of ${limit} requests`;
  },
};
