import type { Filter } from '../../policy.ts';

/** Keeps workers that take new work, and that haven't failed this request before. */
export const notDrainingFilter: Filter = {
  name: 'not-draining',
  transient: false,
  reject: (worker, need) => {
    if (worker.draining) return 'is draining';
    return need.avoid.has(worker.incarnation) ? 'failed this request before' : undefined;
  },
};
