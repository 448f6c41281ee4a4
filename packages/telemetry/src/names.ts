/**
 * Every metric of every process: name, kind, help, labels, buckets. Nothing but this table and its parts names a metric.
 * The `vllm:` names, their labels' spelling and their buckets are vLLM's (vllm/v1/metrics/loggers.py), so that dashboards and
 * autoscalers written for vLLM work unchanged. Seconds and bytes throughout.
 */

import { EXPERT_METRICS } from './expert-names.ts';
import type { MetricDefinition } from './metric-definition.ts';
import { NATS_SERVER_METRICS } from './nats-server-names.ts';

const TTFT_BUCKETS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const TOKEN_BUCKETS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const REQUEST_BUCKETS = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];
const ITERATION_TOKEN_BUCKETS = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
/** From a loopback transfer of one page to a long prompt over a slow link. */
const TRANSFER_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const SHORT_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const BATCH_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 256];

const MODEL = ['model_name'] as const;

export const METRICS = {
  // what vLLM measures too
  timeToFirstToken: {
    name: 'vllm:time_to_first_token_seconds',
    kind: 'histogram',
    help: 'Histogram of time to first token in seconds.',
    labels: MODEL,
    buckets: TTFT_BUCKETS,
  },
  interTokenLatency: {
    name: 'vllm:inter_token_latency_seconds',
    kind: 'histogram',
    help: 'Histogram of inter-token latency in seconds.',
    labels: MODEL,
    buckets: TOKEN_BUCKETS,
  },
  timePerOutputToken: {
    name: 'vllm:time_per_output_token_seconds',
    kind: 'histogram',
    help: 'Histogram of time per output token in seconds; the older name of vllm:inter_token_latency_seconds.',
    labels: MODEL,
    buckets: TOKEN_BUCKETS,
  },
  e2eRequestLatency: {
    name: 'vllm:e2e_request_latency_seconds',
    kind: 'histogram',
    help: 'Histogram of e2e request latency in seconds.',
    labels: MODEL,
    buckets: REQUEST_BUCKETS,
  },
  requestsRunning: {
    name: 'vllm:num_requests_running',
    kind: 'gauge',
    help: 'Number of requests in model execution batches.',
    labels: MODEL,
  },
  requestsWaiting: {
    name: 'vllm:num_requests_waiting',
    kind: 'gauge',
    help: 'Number of requests waiting to be processed.',
    labels: MODEL,
  },
  kvCacheUsage: {
    name: 'vllm:kv_cache_usage_perc',
    kind: 'gauge',
    help: 'KV-cache usage. 1 means 100 percent usage.',
    labels: MODEL,
  },
  promptTokens: {
    name: 'vllm:prompt_tokens_total',
    kind: 'counter',
    help: 'Number of prefill tokens processed.',
    labels: MODEL,
  },
  generationTokens: {
    name: 'vllm:generation_tokens_total',
    kind: 'counter',
    help: 'Number of generation tokens processed.',
    labels: MODEL,
  },
  requestSuccess: {
    name: 'vllm:request_success_total',
    kind: 'counter',
    help: 'Count of successfully processed requests.',
    labels: ['model_name', 'finished_reason'],
  },
  preemptions: {
    name: 'vllm:num_preemptions_total',
    kind: 'counter',
    help: 'Cumulative number of preemption from the engine.',
    labels: MODEL,
  },
  iterationTokens: {
    name: 'vllm:iteration_tokens_total',
    kind: 'histogram',
    help: 'Histogram of number of tokens per engine_step.',
    labels: MODEL,
    buckets: ITERATION_TOKEN_BUCKETS,
  },

  // KV transfer
  kvTransferBytes: {
    name: 'causeway_kv_transfer_bytes_total',
    kind: 'counter',
    help: 'Frame bytes of KV on the wire, headers and repeats included.',
    labels: ['codec', 'src_chip', 'dst_chip'],
  },
  kvTransferRawBytes: {
    name: 'causeway_kv_transfer_raw_bytes_total',
    kind: 'counter',
    help: 'Bytes of KV moved, before encoding.',
    labels: ['codec', 'src_chip', 'dst_chip'],
  },
  kvTransferSeconds: {
    name: 'causeway_kv_transfer_seconds',
    kind: 'histogram',
    help: 'First frame to commit of one transfer.',
    labels: ['codec', 'src_chip', 'dst_chip'],
    buckets: TRANSFER_BUCKETS,
  },
  kvTransferTailSeconds: {
    name: 'causeway_kv_transfer_tail_seconds',
    kind: 'histogram',
    help: "End of a prompt's prefill to the commit of its KV: what the transfer did not do while the prompt was computed.",
    labels: ['codec', 'src_chip', 'dst_chip'],
    buckets: TRANSFER_BUCKETS,
  },
  kvConvertSeconds: {
    name: 'causeway_kv_convert_seconds',
    kind: 'histogram',
    help: 'Time for which KV of one transfer was converted between storages, by the side that did: sender, receiver.',
    labels: ['side', 'chip'],
    buckets: TRANSFER_BUCKETS,
  },
  kvOutcome: {
    name: 'causeway_kv_outcome_total',
    kind: 'counter',
    help: 'What became of the KV of a request: used, partially_used, recomputed, local, not_needed.',
    labels: ['outcome'],
  },
  kvChecksumFailures: {
    name: 'causeway_kv_checksum_failures_total',
    kind: 'counter',
    help: 'Parts of KV refused because their CRC-32C or a transfer digest was wrong.',
    labels: [],
  },
  kvStaleFrames: {
    name: 'causeway_kv_stale_frames_total',
    kind: 'counter',
    help: 'Frames dropped because their transfer is unknown or of another epoch.',
    labels: [],
  },
  kvResentParts: {
    name: 'causeway_kv_resent_parts_total',
    kind: 'counter',
    help: 'Parts of KV sent again after a gap.',
    labels: [],
  },
  kvPages: {
    name: 'causeway_kv_pages',
    kind: 'gauge',
    help: 'Pages of the KV pool by state: free, used.',
    labels: ['state'],
  },
  kvStorage: {
    name: 'causeway_kv_storage_info',
    kind: 'gauge',
    help: '1, with how this worker stores KV; attention: executed on what pages hold as it is, or on f32 numbers rounded to it.',
    labels: ['chip', 'emulated', 'storage', 'attention'],
  },
  natsConnected: {
    name: 'causeway_nats_connected',
    kind: 'gauge',
    help: '1 while the connection to NATS is up.',
    labels: ['connection'],
  },

  kvOpenTransfers: {
    name: 'causeway_kv_open_transfers',
    kind: 'gauge',
    help: 'Transfers of KV under way, by direction: in, out.',
    labels: ['direction'],
  },
  kvCreditBytes: {
    name: 'causeway_kv_credit_bytes',
    kind: 'gauge',
    help: 'KV that senders may send to this worker and that has not arrived yet.',
    labels: [],
  },

  ...NATS_SERVER_METRICS,

  // engine and workers
  prefillTokens: {
    name: 'causeway_prefill_tokens_total',
    kind: 'counter',
    help: 'Tokens whose KV was computed here by prefill.',
    labels: [],
  },
  queuedPromptTokens: {
    name: 'causeway_queued_prompt_tokens',
    kind: 'gauge',
    help: 'Prompt tokens that wait to be prefilled here or are being.',
    labels: [],
  },
  decodeRuns: {
    name: 'causeway_decode_runs_total',
    kind: 'counter',
    help: 'Runs of the decode graph; fewer than tokens when sequences are batched.',
    labels: [],
  },
  decodeBatchSize: {
    name: 'causeway_decode_batch_size',
    kind: 'histogram',
    help: 'Sequences in one run of the decode graph.',
    labels: [],
    buckets: BATCH_BUCKETS,
  },
  decodeStepSeconds: {
    name: 'causeway_decode_step_seconds',
    kind: 'histogram',
    help: 'One step of the running sequences: the graph, sampling, packing.',
    labels: [],
    buckets: SHORT_BUCKETS,
  },
  cancelSeconds: {
    name: 'causeway_cancel_seconds',
    kind: 'histogram',
    help: 'From a cancellation to the last work done for the request.',
    labels: [],
    buckets: SHORT_BUCKETS,
  },

  // router
  handoffGap: {
    name: 'causeway_handoff_gap_seconds',
    kind: 'histogram',
    help: 'First to second token of an answer: what moving from prefill to decode costs the user.',
    labels: MODEL,
    buckets: TRANSFER_BUCKETS,
  },
  routerQueueDepth: {
    name: 'causeway_router_queue_depth',
    kind: 'gauge',
    help: 'Requests that wait in the router for a worker.',
    labels: [],
  },
  routerRequests: {
    name: 'causeway_router_requests_total',
    kind: 'counter',
    help: 'Requests ended, by outcome: ok, cancelled, or the reason of the error.',
    labels: ['outcome'],
  },
  routerMigrations: {
    name: 'causeway_router_migrations_total',
    kind: 'counter',
    help: 'Answers continued on another worker after a failure.',
    labels: [],
  },
  registryWorkers: {
    name: 'causeway_registry_workers',
    kind: 'gauge',
    help: 'Workers in the snapshot.',
    labels: ['role'],
  },
  registryConnected: {
    name: 'causeway_registry_connected',
    kind: 'gauge',
    help: '1 while Redis answers.',
    labels: [],
  },
  registryIgnored: {
    name: 'causeway_registry_ignored_records_total',
    kind: 'counter',
    help: 'Values under our Redis keys that are not worker records and were ignored.',
    labels: [],
  },

  ...EXPERT_METRICS,

  // every process
  buildInfo: {
    name: 'causeway_build_info',
    kind: 'gauge',
    help: '1, with the version that the process runs.',
    labels: ['version'],
  },
  lifecycleState: {
    name: 'causeway_lifecycle_state',
    kind: 'gauge',
    help: '1 for the state that the process is in: starting, ready, draining, stopped.',
    labels: ['state'],
  },
  eventLoopDelay: {
    name: 'causeway_event_loop_delay_seconds',
    kind: 'gauge',
    help: 'Delay of the event loop since the last scrape.',
    labels: ['quantile'],
  },
  eventLoopLongTurns: {
    name: 'causeway_event_loop_long_turns_total',
    kind: 'counter',
    help: 'Turns of the event loop, all callbacks of one phase together, that used more than 7 ms of CPU time.',
    labels: [],
  },
  eventLoopLongestTurn: {
    name: 'causeway_event_loop_longest_turn_seconds',
    kind: 'gauge',
    help: 'CPU time of the longest turn of the event loop since the process started.',
    labels: [],
  },
  eventLoopLongSections: {
    name: 'causeway_event_loop_long_sections_total',
    kind: 'counter',
    help: 'Synchronous sections of more than 5 ms of CPU time, garbage collection aside; only with CAUSEWAY_WATCH_SECTIONS.',
    labels: ['callback'],
  },
} as const satisfies Record<string, MetricDefinition>;

export type MetricKey = keyof typeof METRICS;

/** Names of fields in log lines. */
export const LOG_FIELDS = { service: 'service', requestId: 'requestId', workerId: 'workerId', error: 'err' } as const;
