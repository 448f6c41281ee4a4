import type { Filter } from '../../policy.ts';

/** Keeps workers whose context, and whose page pool, hold the prompt and at least one more token. */
export const fitsContextFilter: Filter = {
  name: 'fits-context',
  transient: false,
  reject: (worker, need) => {
    const pool = worker.capacity.totalPages * worker.capacity.blockTokens;
    if (need.promptTokens >= worker.contextLength) return `its context holds ${worker.contextLength} tokens`;
    return need.promptTokens >= pool ? `its page pool holds ${pool} tokens` : undefined;
  },
};
