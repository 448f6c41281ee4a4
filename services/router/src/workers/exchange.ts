import { holdsExactly, storageName, wireFormOf } from '@causeway/kv';
import type { WorkerRecord } from '@causeway/registry';
import type { Snapshot } from '@causeway/scheduling';

/** Tells why the pages of one worker must not become those of another: numbers would be rounded, and not both allow it. */
export function exchangeOf(workers: readonly WorkerRecord[]): NonNullable<Snapshot['exchange']> {
  const records = new Map(workers.map((record) => [record.incarnation, record]));
  return (prefill, decode) => {
    const [from, to] = [records.get(prefill.incarnation), records.get(decode.incarnation)];
    if (from === undefined || to === undefined || (from.kvLossy === true && to.kvLossy === true)) return undefined;
    const { storage, layers } = from.descriptor;
    if (holdsExactly(wireFormOf(to.descriptor.storage), wireFormOf(storage), layers)) return undefined;
    return `would round KV of ${prefill.id} (${storageName(storage)} to ${storageName(to.descriptor.storage)}), which kvLossy must allow at both`;
  };
}
