import type { Topology, WorkerPool } from './schema.ts';

/** What a worker takes when nothing is said (`CAUSEWAY_KV_BUDGET_BYTES`). */
const USUAL = 2 * 1024 ** 3;
const LEAST = 64 * 1024 ** 2;

/**
 * Memory for KV of each worker of a pool, bytes; undefined: what a worker takes by itself. A budget that is set is kept. The others
 * share half of the machine's memory less what is set, evenly, at most the usual each: the other half is for weights and the rest.
 * @param machineBytes memory of the machine; undefined: not known
 */
export function workerKvBudget(topology: Topology, pool: WorkerPool, machineBytes: number | undefined): number | undefined {
  if (pool.kvBudget !== undefined || machineBytes === undefined) return pool.kvBudget;
  const workers = topology.pools.filter((other) => other.role !== 'router');
  const claimed = workers.reduce((sum, other) => sum + (other.kvBudget ?? 0) * other.count, 0);
  const sharers = workers.reduce((sum, other) => sum + (other.kvBudget === undefined ? other.count : 0), 0);
  const share = Math.floor((machineBytes / 2 - claimed) / Math.max(1, sharers));
  return share >= USUAL ? undefined : Math.max(LEAST, share);
}
