import { highestScore, type Policy } from '../../policy.ts';
import { fingerprintFilter } from '../fingerprint/fingerprint.ts';
import { fitsContextFilter } from '../fits-context/fits-context.ts';
import { decodeHasRoom, prefillHasRoom } from '../has-room/has-room.ts';
import { decodeLoad, prefillLoad } from '../load/load.ts';
import { modelFilter } from '../model/model.ts';
import { notDrainingFilter } from '../not-draining/not-draining.ts';
import { representationFilter } from '../representation/representation.ts';
import type { Snapshot, WorkerState } from '../../snapshot.ts';

/** Chooses the prefill worker that would have read the prompt first. */
export const leastOutstandingPrefill: Policy = {
  name: 'least-outstanding-work/prefill',
  filters: [modelFilter, notDrainingFilter, fitsContextFilter, prefillHasRoom],
  scorers: [{ scorer: prefillLoad, weight: 1 }],
  picker: highestScore,
};

/** Chooses the least occupied decode worker; with a prefill worker given, among those that can take its KV. */
export function leastOutstandingDecode(prefill?: WorkerState, exchange?: Snapshot['exchange']): Policy {
  const compatible = prefill === undefined ? [] : [fingerprintFilter(prefill.fingerprint)];
  if (prefill !== undefined && exchange !== undefined) compatible.push(representationFilter(prefill, exchange));
  return {
    name: 'least-outstanding-work/decode',
    filters: [modelFilter, notDrainingFilter, ...compatible, fitsContextFilter, decodeHasRoom],
    scorers: [{ scorer: decodeLoad, weight: 1 }],
    picker: highestScore,
  };
}
