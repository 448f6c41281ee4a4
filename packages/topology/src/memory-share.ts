/** How much memory processes fill by their own account: workers with KV, expert shards with weights. */
import type { ExpertPool, Pool, Topology, WorkerPool } from './schema.ts';

/** What a worker takes when nothing is said (`CAUSEWAY_KV_BUDGET_BYTES`). */
const USUAL_KV = 2 * 1024 ** 3;
const LEAST_KV = 64 * 1024 ** 2;
/** What an expert shard takes when nothing is said (`CAUSEWAY_EXPERT_MEMORY_BYTES`). */
const USUAL_EXPERTS = 4 * 1024 ** 3;

/** Weights and working memory of a worker or shard beside its budget, for limits of containers; a larger model needs more. */
export const BESIDE_BUDGET_BYTES = 2 * 1024 ** 3;

/** Budget of a process of this pool where the machine is not known, bytes; undefined for routers. */
export function poolBudget(pool: Pool | undefined): number | undefined {
  if (pool === undefined || pool.role === 'router') return undefined;
  return pool.role === 'expert' ? (pool.memory ?? USUAL_EXPERTS) : (pool.kvBudget ?? USUAL_KV);
}

/**
 * Memory for KV of each worker of a pool, bytes; undefined: what a worker takes by itself. A budget that is set is kept. The others
 * share half of the machine's memory less what is set, evenly, at most the usual each: the other half is for weights and the rest.
 * @param machineBytes memory of the machine; undefined: not known
 */
export function workerKvBudget(topology: Topology, pool: WorkerPool, machineBytes: number | undefined): number | undefined {
  if (pool.kvBudget !== undefined || machineBytes === undefined) return pool.kvBudget;
  const workers = topology.pools.filter((other) => other.role === 'prefill' || other.role === 'decode');
  const share = evenShare(
    machineBytes / 2,
    workers.map(({ kvBudget, count }) => ({ bytes: kvBudget, count })),
  );
  return share >= USUAL_KV ? undefined : Math.max(LEAST_KV, share);
}

/**
 * Memory for weights of each shard of a pool, bytes; undefined: what a shard takes by itself. What is set is kept. The others share a
 * third of the machine's memory less what is set, evenly, if that is more than the usual: a bound, of which a small model takes little.
 * @param machineBytes memory of the machine; undefined: not known
 */
export function shardMemory(topology: Topology, pool: ExpertPool, machineBytes: number | undefined): number | undefined {
  if (pool.memory !== undefined || machineBytes === undefined) return pool.memory;
  const shards = topology.pools.filter((other) => other.role === 'expert');
  const share = evenShare(
    machineBytes / 3,
    shards.map(({ memory, count }) => ({ bytes: memory, count })),
  );
  return share > USUAL_EXPERTS ? share : undefined;
}

/** What is left of `bytes` for each process whose pool sets none. */
function evenShare(bytes: number, pools: readonly { bytes: number | undefined; count: number }[]): number {
  const claimed = pools.reduce((sum, pool) => sum + (pool.bytes ?? 0) * pool.count, 0);
  const sharers = pools.reduce((sum, pool) => sum + (pool.bytes === undefined ? pool.count : 0), 0);
  return Math.floor((bytes - claimed) / Math.max(1, sharers));
}
