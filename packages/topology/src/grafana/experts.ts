import { type Dashboard, mean, query, rate, sum } from './queries.ts';

/** Shards of a mixture-of-experts model: who is asked how much, and where experts are. */
export const experts: Dashboard = {
  uid: 'causeway-experts',
  title: 'Causeway: experts',
  panels: [
    {
      title: 'Load of experts',
      description: 'Tokens per second, by layer and expert: the most used ones of each layer, and the rest together.',
      unit: 'short',
      kind: 'heatmap',
      queries: [query(sum('causeway_expert_tokens_total', 'layer, expert'), '{{layer}} · {{expert}}')],
    },
    {
      title: 'Busiest shard over the mean',
      description: 'By layer; 1 is even. A rebalance brings it down.',
      unit: 'short',
      queries: [query('max by (layer) (causeway_expert_load_max_over_mean)', 'layer {{layer}}')],
    },
    {
      title: 'Calls of each shard',
      description: 'Pairs of token and expert that it computed, per second.',
      unit: 'short',
      stacked: true,
      queries: [query(sum('causeway_expert_shard_batch_pairs_sum', 'instance'), '{{instance}}')],
    },
    {
      title: 'Replicas',
      description: 'Live shards that have an expert: of the expert with fewest, on average, and as many as each should have.',
      unit: 'short',
      quiet: true,
      queries: [query('max by (stat) (causeway_expert_copies)', '{{stat}}')],
    },
    {
      title: 'Experts held',
      description: 'In the memory of each shard, over all layers. Changes with every rebalance.',
      unit: 'short',
      queries: [query('causeway_expert_shard_experts', '{{instance}}')],
    },
    {
      title: 'Rebalances',
      description: 'Epoch of the placement in force: it rises by one with each change.',
      unit: 'short',
      queries: [query('max(causeway_expert_placement_epoch)', 'epoch')],
    },
    {
      title: 'Frames',
      description: 'From workers to shards: first requests, retries, hedges won and lost, frames of a stale placement.',
      unit: 'ops',
      stacked: true,
      queries: [query(sum('causeway_expert_frames_total', 'kind'), '{{kind}}')],
    },
    {
      title: 'Share hedged',
      description: 'Frames that were asked of a second shard; 5 % at most.',
      unit: 'percentunit',
      quiet: true,
      queries: [
        query(
          `sum(${rate('causeway_expert_frames_total{kind=~"hedge_won|hedge_lost"}')}) / sum(${rate('causeway_expert_frames_total{kind="first"}')})`,
          'hedged',
        ),
      ],
    },
    {
      title: 'Time of a layer, by part',
      description: "Mean, seen by the worker; queue and compute are the slowest shard's.",
      unit: 's',
      stacked: true,
      queries: [query(mean('causeway_expert_layer_seconds', 'part'), '{{part}}')],
    },
    {
      title: 'Pairs in a run',
      description: 'Batching: how many pairs of token and expert one run of a shard computes.',
      unit: 'short',
      queries: [query(mean('causeway_expert_shard_batch_pairs', 'instance'), '{{instance}}')],
    },
    {
      title: 'Wait and run at a shard',
      description: 'Mean time that the oldest frame of a run waited, and of the run.',
      unit: 's',
      queries: [
        query(mean('causeway_expert_shard_queue_seconds', 'instance'), '{{instance}} wait'),
        query(mean('causeway_expert_shard_run_seconds', 'instance'), '{{instance}} run'),
      ],
    },
    {
      title: 'Bytes between workers and shards',
      description: 'Rows sent and sums received, counted by workers.',
      unit: 'Bps',
      queries: [query(sum('causeway_expert_bytes_total', 'direction'), '{{direction}}')],
    },
    {
      title: 'Memory for experts',
      description: 'Weights held by each shard, and its budget.',
      unit: 'bytes',
      quiet: true,
      queries: [query('causeway_expert_shard_memory_bytes', '{{instance}} {{kind}}')],
    },
  ],
};
