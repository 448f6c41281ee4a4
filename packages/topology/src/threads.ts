import type { ComputePool, Topology } from './schema.ts';

/** Threads of a worker that says `auto` where the machine is not known when the file is written: containers and pods. */
export const AUTO_THREADS = 1;

/** Whether nobody has said how many threads a worker of this pool computes with. */
export function hasAutoThreads(pool: ComputePool): boolean {
  return pool.cores === undefined && typeof pool.threads !== 'number';
}

/**
 * Computing threads of each worker of a pool.
 * A number is taken as it is; `cores` gives each worker its share of the list; otherwise the cores that no pool claimed,
 * less one for the router and the servers where there are four or more, are shared evenly. Never less than one.
 * @param machineCores cores of the machine; undefined: not known
 */
export function workerThreads(topology: Topology, pool: ComputePool, machineCores: number | undefined): number {
  if (pool.cores !== undefined) return Math.max(1, Math.floor(pool.cores.length / pool.count));
  if (typeof pool.threads === 'number') return pool.threads;
  if (machineCores === undefined) return AUTO_THREADS;
  let claimed = machineCores >= 4 ? 1 : 0;
  let sharers = 0;
  for (const other of topology.pools) {
    if (other.role === 'router') continue;
    if (other.cores !== undefined) claimed += other.cores.length;
    else if (typeof other.threads === 'number') claimed += other.threads * other.count;
    else sharers += other.count;
  }
  return Math.max(1, Math.floor((machineCores - claimed) / Math.max(1, sharers)));
}

/** The cores of the worker with this index in its pool: consecutive slices, the last takes what is left over. */
export function workerCores(pool: ComputePool, index: number): readonly number[] | undefined {
  if (pool.cores === undefined) return undefined;
  const each = Math.floor(pool.cores.length / pool.count);
  return pool.cores.slice(index * each, index === pool.count - 1 ? undefined : (index + 1) * each);
}
