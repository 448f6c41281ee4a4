import { placementCopies, type ShardNode } from '@causeway/experts';
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
  'expertCopies',
] as const;

export type ShardMetrics = Metrics<(typeof KEYS)[number]>;

export function createShardMetrics(registry: Registry): ShardMetrics {
  return createMetrics(KEYS, { registry, nodeMetrics: true });
}

export interface ShardLimits {
  /** Memory for weights of experts. */
  budgetBytes: number;
  /** Shards that should have each expert at least. */
  copies: number;
}

/** Brings gauges and counters up to date at every scrape. */
export function exportShard(metrics: ShardMetrics, { shard, held, view, fingerprint }: ShardNode, limits: ShardLimits): void {
  const counted = { accepted: 0, stale: 0, cancelled: 0 };
  const raise = (outcome: keyof typeof counted, total: number): void => {
    metrics.expertShardFrames.inc({ outcome }, total - counted[outcome]);
    counted[outcome] = total;
  };
  const update = (): void => {
    const { stats } = shard;
    metrics.expertShardQueue.set(stats.queued);
    const { placement, shards } = view.snapshot;
    metrics.expertPlacementEpoch.set(placement?.epoch ?? 0);
    if (placement !== undefined) {
      const live = [...shards.values()].filter((record) => record.fingerprint === fingerprint);
      const copies = placementCopies(placement, new Set(live.map(({ id }) => id)));
      metrics.expertCopies.set({ stat: 'fewest' }, copies.fewest);
      metrics.expertCopies.set({ stat: 'mean' }, copies.mean);
    }
    metrics.expertCopies.set({ stat: 'wanted' }, limits.copies);
    metrics.expertShardHeld.set(held.experts);
    metrics.expertShardMemory.set({ kind: 'used' }, held.usedBytes);
    metrics.expertShardMemory.set({ kind: 'budget' }, limits.budgetBytes);
    raise('accepted', stats.frames);
    raise('stale', stats.staleFrames);
    raise('cancelled', stats.cancelledFrames);
  };
  Object.assign(metrics.expertShardQueue, { collect: update });
}
