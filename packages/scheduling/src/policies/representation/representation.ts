import type { Filter } from '../../policy.ts';
import type { Snapshot, WorkerState } from '../../snapshot.ts';

/** Keeps decode workers that may store what this prefill worker sends, as the snapshot's `exchange` tells. */
export function representationFilter(prefill: WorkerState, exchange: NonNullable<Snapshot['exchange']>): Filter {
  return { name: 'representation', transient: false, reject: (decode) => exchange(prefill, decode) };
}
