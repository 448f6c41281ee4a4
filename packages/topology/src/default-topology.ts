import { modelOf, withModels } from './models.ts';
import { topologySchema, type Topology } from './schema.ts';

/**
 * What `causeway up`, Compose and Kubernetes run when no file is named: prompts read on one chip family, answers written on another,
 * experts in shards of their own. The chips are emulated: their KV in the families' own bytes, exchanged without loss, on any machine.
 * Quantised checkpoints are computed exactly: with activations rounded to int8 a small one may answer nonsense where its two best tokens
 * are close.
 */
export function defaultTopology(): Topology {
  return topologySchema.parse({
    version: 1,
    model: 'tiny-moe',
    pools: [
      { name: 'router', role: 'router' },
      { name: 'prefill', role: 'prefill', count: 2, chip: 'nvidia', emulated: true, threads: 'auto', precision: 'exact' },
      { name: 'decode', role: 'decode', count: 2, chip: 'ascend', emulated: true, threads: 'auto', precision: 'exact' },
      { name: 'expert', role: 'expert', count: 2, threads: 1, precision: 'exact', hotCopies: 1 },
    ],
  });
}

/**
 * The same for models that the user names. Each worker has its model's weights in memory, so others than the built-in one get one worker
 * of a kind; a model without experts gets no shards.
 * @param words as `--model` takes them; none: the built-in model
 */
export function defaultTopologyOf(words: readonly string[], hasExperts: (word: string) => boolean): Topology {
  const topology = defaultTopology();
  if (words.every((word) => word === topology.model)) return topology;
  const pools = topology.pools.map((pool) => (pool.role === 'prefill' || pool.role === 'decode' ? { ...pool, count: 1 } : pool));
  const named = withModels({ ...topology, pools }, words);
  return { ...named, pools: named.pools.filter((pool) => pool.role !== 'expert' || hasExperts(modelOf(named, pool))) };
}
