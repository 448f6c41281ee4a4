import type { Filter } from '../../policy.ts';

/** Keeps workers that serve the model. */
export const modelFilter: Filter = {
  name: 'model',
  transient: false,
  reject: (worker, need) => (worker.model === need.model ? undefined : `serves ${worker.model}, not ${need.model}`),
};
