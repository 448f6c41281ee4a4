import { topologySchema, type Topology } from './schema.ts';

/** What `causeway up` runs when no file is named: one router, one prefill worker, one decode worker on the CPU. */
export function defaultTopology(): Topology {
  return topologySchema.parse({
    version: 1,
    model: 'tiny-moe',
    pools: [
      { name: 'router', role: 'router' },
      { name: 'prefill', role: 'prefill', threads: 'auto' },
      { name: 'decode', role: 'decode', threads: 'auto' },
    ],
  });
}
