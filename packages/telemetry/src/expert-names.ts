/** Metrics of experts in shards: of workers, who ask, and of shards. */
import type { MetricDefinition } from './metric-definition.ts';

/** From a step of a small model to a prompt's chunk of a large one. */
const EXPERT_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export const EXPERT_METRICS = {
  expertTokens: {
    name: 'causeway_expert_tokens_total',
    kind: 'counter',
    help: 'Tokens that a worker sent to each expert: of each layer up to 16 that were among the 8 most used by id, the others as `rest`.',
    labels: ['layer', 'expert'],
  },
  expertLoadImbalance: {
    name: 'causeway_expert_load_max_over_mean',
    kind: 'gauge',
    help: 'Load of the busiest shard over the mean of all, by layer, from what this worker asked of the placement lately; 1 is even.',
    labels: ['layer'],
  },
  expertLayerSeconds: {
    name: 'causeway_expert_layer_seconds',
    kind: 'histogram',
    help: 'Time of one MoE layer elsewhere, by part: pack, network, queue, compute, combine (queue and compute of the slowest shard).',
    labels: ['part'],
    buckets: EXPERT_BUCKETS,
  },
  expertFrames: {
    name: 'causeway_expert_frames_total',
    kind: 'counter',
    help: 'Frames sent by a worker to shards, by outcome of the sending: first, retry, hedge_won, hedge_lost, stale.',
    labels: ['kind'],
  },
  expertBytes: {
    name: 'causeway_expert_bytes_total',
    kind: 'counter',
    help: 'Bytes between workers and shards, counted by the worker.',
    labels: ['direction'],
  },
  expertShardsConnected: {
    name: 'causeway_expert_shards_connected',
    kind: 'gauge',
    help: 'Shards that this worker has a stream to.',
    labels: [],
  },
  expertPlacementEpoch: {
    name: 'causeway_expert_placement_epoch',
    kind: 'gauge',
    help: 'Epoch of the placement in force as this process knows it; 0: none.',
    labels: [],
  },
  expertCopies: {
    name: 'causeway_expert_copies',
    kind: 'gauge',
    help: 'Live shards that have an expert of the placement in force: of the expert with fewest, on average, and as many as each should have.',
    labels: ['stat'],
  },
  expertShardQueue: {
    name: 'causeway_expert_shard_queue',
    kind: 'gauge',
    help: 'Frames in line at this shard.',
    labels: [],
  },
  expertShardRunSeconds: {
    name: 'causeway_expert_shard_run_seconds',
    kind: 'histogram',
    help: 'Time of one run of a layer of experts at this shard.',
    labels: [],
    buckets: EXPERT_BUCKETS,
  },
  expertShardQueueSeconds: {
    name: 'causeway_expert_shard_queue_seconds',
    kind: 'histogram',
    help: 'Time that the oldest frame of a run waited at this shard.',
    labels: [],
    buckets: EXPERT_BUCKETS,
  },
  expertShardBatch: {
    name: 'causeway_expert_shard_batch_pairs',
    kind: 'histogram',
    help: 'Pairs of token and expert in one run of this shard.',
    labels: [],
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192],
  },
  expertShardFrames: {
    name: 'causeway_expert_shard_frames_total',
    kind: 'counter',
    help: 'Frames that this shard took: accepted, stale (not all experts here), cancelled.',
    labels: ['outcome'],
  },
  expertShardMemory: {
    name: 'causeway_expert_shard_memory_bytes',
    kind: 'gauge',
    help: 'Weights of experts in memory, and the budget.',
    labels: ['kind'],
  },
  expertShardHeld: {
    name: 'causeway_expert_shard_experts',
    kind: 'gauge',
    help: 'Experts in memory, over all layers.',
    labels: [],
  },
} as const satisfies Record<string, MetricDefinition>;
