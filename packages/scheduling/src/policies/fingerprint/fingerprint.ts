import type { Filter } from '../../policy.ts';

/** Keeps workers that can exchange KV with one of this fingerprint. */
export function fingerprintFilter(fingerprint: string): Filter {
  return {
    name: 'fingerprint',
    transient: false,
    reject: (worker) => (worker.fingerprint === fingerprint ? undefined : 'has another fingerprint than the prefill worker'),
  };
}
