import { topologySchema, type Topology } from './schema.ts';

/**
 * What `causeway up` runs when no file is named: one router, one prefill worker, one decode worker on the CPU. Quantised checkpoints are
 * computed exactly: with activations rounded to int8 a small one may answer nonsense where its two best tokens are close.
 */
export function defaultTopology(): Topology {
  return topologySchema.parse({
    version: 1,
    model: 'tiny-moe',
    pools: [
      { name: 'router', role: 'router' },
      { name: 'prefill', role: 'prefill', threads: 'auto', precision: 'exact' },
      { name: 'decode', role: 'decode', threads: 'auto', precision: 'exact' },
    ],
  });
}
