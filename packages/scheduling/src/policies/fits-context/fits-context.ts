import type { Filter } from '../../policy.ts';

/** Keeps workers whose context, and whose page pool, hold the prompt and at least one more token of each answer. */
export const fitsContextFilter: Filter = {
  name: 'fits-context',
  transient: false,
  reject: (worker, need) => {
    const pool = worker.capacity.totalPages * worker.capacity.blockTokens;
    if (need.promptTokens >= worker.contextLength) return `its context holds ${worker.contextLength} tokens`;
    if (need.promptTokens >= pool) return `its page pool holds ${pool} tokens`;
    if (worker.role === 'prefill' || need.sequences === 1) return undefined;
    // What `choicePages` of the engine takes at least: the prompt once, and a page of its own for each answer.
    const pages = Math.ceil(need.promptTokens / worker.capacity.blockTokens) + need.sequences;
    const has = worker.capacity.totalPages;
    return pages > has ? `its page pool has ${has} pages, and ${need.sequences} answers need ${pages}` : undefined;
  },
};
