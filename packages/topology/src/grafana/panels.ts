/** What the dashboards show, as data: `render.ts` makes Grafana's JSON of it, tests run every query. No panel for what no process exports. */

import { experts } from './experts.ts';
import { type Dashboard, mean, type Panel, quantiles, query, sum } from './queries.ts';
import { transport } from './transport.ts';

const OUTCOMES: Panel = {
  title: 'What became of the KV',
  description:
    'used: sent and decoded from; local: read where it was answered; recomputed: lost, read twice; not_needed: the answer was one token.',
  unit: 'reqps',
  stacked: true,
  queries: [query(sum('causeway_kv_outcome_total', 'outcome'), '{{outcome}}')],
};
const REQUESTS: Panel = {
  title: 'Requests by outcome',
  description: 'Requests ended: ok, cancelled, or the reason of the error.',
  unit: 'reqps',
  stacked: true,
  queries: [query(sum('causeway_router_requests_total', 'outcome'), '{{outcome}}')],
};
const EVENT_LOOP: Panel = {
  title: 'Event loop delay, p99',
  description: 'Loops never compute: above 0.1 s something does, or there is no core left.',
  unit: 's',
  queries: [query('causeway_event_loop_delay_seconds{quantile="0.99"}', '{{instance}}')],
};
const MEMORY: Panel = {
  title: 'Memory',
  description: 'Resident set; of a worker weights, KV and working memory.',
  unit: 'bytes',
  queries: [query('process_resident_memory_bytes', '{{instance}}')],
};

const overview: Dashboard = {
  uid: 'causeway',
  title: 'Causeway: overview',
  panels: [
    REQUESTS,
    {
      title: 'Goodput',
      description: 'Requests whose first token came within 2.5 s, and all that got one.',
      unit: 'reqps',
      queries: [
        query(sum('vllm:time_to_first_token_seconds_bucket{le="2.5"}'), 'in time'),
        query(sum('vllm:time_to_first_token_seconds_count'), 'all'),
      ],
    },
    {
      title: 'Error budget burning',
      description: 'Share of requests that failed by our fault or were late; the SLO allows 1 %.',
      unit: 'percentunit',
      quiet: true,
      queries: [query('causeway:slo_errors:ratio5m', '5 min'), query('causeway:slo_errors:ratio1h', '1 h')],
    },
    {
      title: 'Time to first token',
      description: 'Request admitted to first token sent.',
      unit: 's',
      queries: quantiles('vllm:time_to_first_token_seconds'),
    },
    {
      title: 'Time between tokens',
      description: 'What a reader of the stream sees.',
      unit: 's',
      queries: quantiles('vllm:inter_token_latency_seconds'),
    },
    {
      title: 'First to second token',
      description: 'The handoff from prefill to decode.',
      unit: 's',
      queries: quantiles('causeway_handoff_gap_seconds'),
    },
    {
      title: 'Whole answer',
      description: 'Request to last token.',
      unit: 's',
      queries: quantiles('vllm:e2e_request_latency_seconds'),
    },
    {
      title: 'Tokens',
      description: 'Of prompts and of answers, as routers count them: once.',
      unit: 'short',
      queries: [
        query(sum('vllm:prompt_tokens_total{job="router"}'), 'prompt'),
        query(sum('vllm:generation_tokens_total{job="router"}'), 'generated'),
      ],
    },
    OUTCOMES,
    {
      title: 'Workers',
      description: 'Registered, by role.',
      unit: 'short',
      quiet: true,
      queries: [query('max by (role) (causeway_registry_workers)', '{{role}}')],
    },
  ],
};

const CHIPS = 'src_chip, dst_chip';
const islands: Dashboard = {
  uid: 'causeway-islands',
  title: 'Causeway: islands',
  panels: [
    {
      title: 'KV between chip families',
      description: 'Bytes on the wire, from prefill to decode.',
      unit: 'Bps',
      stacked: true,
      queries: [query(sum('causeway_kv_transfer_bytes_total', CHIPS), '{{src_chip}} → {{dst_chip}}')],
    },
    {
      title: 'Codec',
      description: 'KV before encoding, by the codec that was chosen.',
      unit: 'Bps',
      stacked: true,
      queries: [query(sum('causeway_kv_transfer_raw_bytes_total', 'codec'), '{{codec}}')],
    },
    {
      title: 'Compression',
      description: 'KV bytes for each byte on the wire.',
      unit: 'short',
      queries: [
        query(
          `${sum('causeway_kv_transfer_raw_bytes_total', CHIPS)} / ${sum('causeway_kv_transfer_bytes_total', CHIPS)}`,
          '{{src_chip}} → {{dst_chip}}',
        ),
      ],
    },
    {
      title: 'Time of a transfer',
      description: 'First frame to commit.',
      unit: 's',
      queries: quantiles('causeway_kv_transfer_seconds', CHIPS),
    },
    {
      title: 'Conversion',
      description: 'Mean time for which KV of a transfer was brought from one storage to the wire, and from there to the other.',
      unit: 's',
      queries: [query(mean('causeway_kv_convert_seconds', 'side, chip'), '{{side}} {{chip}}')],
    },
    OUTCOMES,
    {
      title: 'Share recomputed',
      description: 'Prompts that were read twice because their KV was lost.',
      unit: 'percentunit',
      quiet: true,
      queries: [query('causeway:kv_recomputed:ratio5m', 'recomputed')],
    },
    {
      title: 'Prompts read',
      description: 'Tokens, by the pool that computed them.',
      unit: 'short',
      stacked: true,
      queries: [query(sum('causeway_prefill_tokens_total', 'job, pool'), '{{job}} {{pool}}')],
    },
    {
      title: 'Answers written',
      description: 'Tokens, by pool.',
      unit: 'short',
      stacked: true,
      queries: [query(sum('vllm:generation_tokens_total{job="decode"}', 'pool'), '{{pool}}')],
    },
  ],
};

const workers: Dashboard = {
  uid: 'causeway-workers',
  title: 'Causeway: workers',
  panels: [
    {
      title: 'KV in use',
      description: 'Share of pages; near 1 requests wait or are preempted.',
      unit: 'percentunit',
      queries: [query('vllm:kv_cache_usage_perc', '{{instance}}')],
    },
    {
      title: 'Pages in use',
      description: 'Of the KV pool.',
      unit: 'short',
      queries: [query('causeway_kv_pages{state="used"}', '{{instance}}')],
    },
    {
      title: 'Sequences',
      description: 'Running, and waiting for room.',
      unit: 'short',
      queries: [
        query('vllm:num_requests_running{job=~"prefill|decode"}', '{{instance}} running'),
        query('vllm:num_requests_waiting{job=~"prefill|decode"}', '{{instance}} waiting'),
      ],
    },
    {
      title: 'Prompt tokens waiting',
      description: 'What the autoscaler of prefill workers goes by.',
      unit: 'short',
      quiet: true,
      queries: [query('causeway_queued_prompt_tokens{job="prefill"}', '{{instance}}')],
    },
    {
      title: 'Sequences of a decode run',
      description: 'Batching: how many answers one run of the graph goes on with.',
      unit: 'short',
      queries: [query(mean('causeway_decode_batch_size', 'instance'), '{{instance}}')],
    },
    {
      title: 'Tokens of a step',
      description: 'Of a prefill chunk or a decode run.',
      unit: 'short',
      queries: [query(mean('vllm:iteration_tokens_total', 'instance'), '{{instance}}')],
    },
    {
      title: 'Preemptions and cancellations',
      description: 'Sequences taken out for want of pages; cancelled requests whose work has ended.',
      unit: 'ops',
      quiet: true,
      queries: [query(sum('vllm:num_preemptions_total'), 'preempted'), query(sum('causeway_cancel_seconds_count'), 'cancelled')],
    },
    EVENT_LOOP,
    {
      title: 'Long turns of the event loop',
      description: 'Turns that used more than 7 ms of CPU time.',
      unit: 'ops',
      quiet: true,
      queries: [query(sum('causeway_event_loop_long_turns_total', 'instance'), '{{instance}}')],
    },
    MEMORY,
    {
      title: 'CPU',
      description: 'Cores in use.',
      unit: 'short',
      queries: [query(sum('process_cpu_seconds_total', 'instance'), '{{instance}}')],
    },
  ],
};

const router: Dashboard = {
  uid: 'causeway-router',
  title: 'Causeway: router',
  panels: [
    {
      title: 'Requests here',
      description: 'In flight; those that wait for a worker.',
      unit: 'short',
      queries: [
        query('vllm:num_requests_running{job="router"}', '{{instance}} running'),
        query('causeway_router_queue_depth', '{{instance}} waiting'),
      ],
    },
    REQUESTS,
    {
      title: 'Where prompts were read',
      description: 'What the plan came to: local where the answer was written, else by a prefill worker.',
      unit: 'reqps',
      stacked: true,
      queries: [
        query(sum('causeway_kv_outcome_total{outcome="local"}'), 'local'),
        query(sum('causeway_kv_outcome_total{outcome!="local"}'), 'disaggregated'),
      ],
    },
    {
      title: 'Answers by their end',
      description: 'stop, length, tool_calls.',
      unit: 'reqps',
      stacked: true,
      queries: [query(sum('vllm:request_success_total', 'finished_reason'), '{{finished_reason}}')],
    },
    {
      title: 'Answers that moved',
      description: 'Went on at another worker after a failure.',
      unit: 'ops',
      quiet: true,
      queries: [query(sum('causeway_router_migrations_total'), 'migrations')],
    },
    {
      title: 'Registry',
      description: 'Workers in the snapshot; whether Redis answers.',
      unit: 'short',
      quiet: true,
      queries: [
        query('causeway_registry_workers', '{{instance}} {{role}}'),
        query('causeway_registry_connected', '{{instance}} connected'),
      ],
    },
  ],
};

export const DASHBOARDS: Readonly<Record<string, Dashboard>> = { overview, islands, experts, transport, workers, router };
