import type { ShardNode } from '@causeway/experts';
import { createMetrics, type Metrics } from '@causeway/telemetry';
import type { Registry } from 'prom-client';

const KEYS = [
  'expertShardQueue',
  'expertShardRunSeconds',
  'expertShardQueueSeconds',
  'expertShardBatch',
  'expertShardFrames',
  'expertShardMemory',
  'expertShardHeld',
  'expertPlacementEpoch',
] as const;

export type ShardMetrics = Metrics<(typeof KEYS)[number]>;

export function createShardMetrics(registry: Registry): ShardMetrics {
  return createMetrics(KEYS, { registry, nodeMetrics: true });
}

/** Brings gauges and counters up to date at every scrape. */
export function exportShard(metrics: ShardMetrics, { shard, held, view }: ShardNode, budgetBytes: number): void {
  const counted = { accepted: 0, stale: 0, cancelled: 0 };
  const raise = (outcome: keyof typeof counted, total: number): void => {
    metrics.expertShardFrames.inc({ outcome }, total - counted[outcome]);
    counted[outcome] = total;
  };
  const update = (): void => {
    const { stats } = shard;
    metrics.expertShardQueue.set(stats.queued);
    metrics.expertPlacementEpoch.set(view.snapshot.placement?.epoch ?? 0);
    metrics.expertShardHeld.set(held.experts);
    metrics.expertShardMemory.set({ kind: 'used' }, held.usedBytes);
    metrics.expertShardMemory.set({ kind: 'budget' }, budgetBytes);
    raise('accepted', stats.frames);
    raise('stale', stats.staleFrames);
    raise('cancelled', stats.cancelledFrames);
  };
  Object.assign(metrics.expertShardQueue, { collect: update });
}
