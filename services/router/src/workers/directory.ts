import type { WorkerRecord } from '@causeway/registry';
import type { WorkerState } from '@causeway/scheduling';

/** The workers that this router knows; `RegistryView` behind a few calls. */
export interface WorkerDirectory {
  /** The latest snapshot, also while Redis is away. */
  workers(): readonly WorkerRecord[];
  /** Takes a worker out at once because its connection failed. */
  remove(worker: Pick<WorkerRecord, 'id' | 'incarnation'>): void;
  onChange(listener: () => void): Disposable;
}

/** What this router has given a worker. */
export interface GivenWork {
  requests: number;
  promptTokens: number;
}

/** A registered worker as scheduling sees it. */
export function workerState(record: WorkerRecord, given: GivenWork | undefined): WorkerState {
  return {
    id: record.id,
    incarnation: record.incarnation,
    role: record.role,
    model: record.model,
    contextLength: record.contextLength,
    fingerprint: fingerprintKey(record.fingerprint),
    draining: record.draining,
    capacity: record.capacity,
    load: record.load,
    rates: record.rates,
    given: { requests: given?.requests ?? 0, promptTokens: given?.promptTokens ?? 0 },
  };
}

/** Longest prompt and answer together that a worker of the model can decode; undefined when nobody serves it. */
export function servedContext(workers: readonly WorkerRecord[], model: string): number | undefined {
  const lengths = workers
    .filter((worker) => worker.role === 'decode' && worker.model === model)
    .map((worker) => worker.contextLength);
  return lengths.length === 0 ? undefined : Math.max(...lengths);
}

/** Records stay the same objects until a worker registers anew. */
const fingerprintKeys = new WeakMap<WorkerRecord['fingerprint'], string>();

/** Equal for workers that may exchange KV: every field of the fingerprint, in a fixed order. */
function fingerprintKey(fingerprint: WorkerRecord['fingerprint']): string {
  const known = fingerprintKeys.get(fingerprint);
  if (known !== undefined) return known;
  const key = [fingerprint.architecture, fingerprint.weights, fingerprint.tokenizer, fingerprint.rope, fingerprint.geometry].join(
    ':',
  );
  fingerprintKeys.set(fingerprint, key);
  return key;
}
