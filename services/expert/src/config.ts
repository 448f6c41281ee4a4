import { byteSize, type ConfigOf, defineConfig, integer, LIMITS, milliseconds, number } from '@causeway/config';
import { workerConfig } from '@causeway/worker-runtime';

const {
  workerId,
  modelPath,
  modelName,
  threads,
  precision,
  redisUrl,
  namespace,
  host,
  advertiseHost,
  advertiseInterface,
  rpcPort,
  observabilityPort,
  watchSections,
  leaseMs,
  drainMs,
  startupDeadlineMs,
  logLevel,
} = workerConfig;

/** Settings of an expert shard. Those that it shares with workers are named and mean the same. */
export const expertConfig = defineConfig({
  workerId,
  modelPath,
  modelName,
  threads,
  precision,
  memoryBytes: {
    env: 'CAUSEWAY_EXPERT_MEMORY_BYTES',
    flag: 'expert-memory',
    schema: byteSize({ min: 1 }),
    default: '4GiB',
    doc: 'Memory for weights of experts. A change of placement needs room for the new experts of a layer beside the old.',
  },
  shards: {
    env: 'CAUSEWAY_EXPERT_SHARDS',
    flag: 'expert-shards',
    schema: integer({ min: 1, max: 4096 }),
    default: 1,
    doc: 'Shards that the first placement waits for.',
  },
  firstWaitMs: {
    env: 'CAUSEWAY_EXPERT_FIRST_WAIT_MS',
    flag: 'expert-first-wait-ms',
    schema: milliseconds({ min: 0 }),
    default: 15_000,
    doc: 'How long the first placement waits for all shards; then it is made of those that are there.',
  },
  copies: {
    env: 'CAUSEWAY_EXPERT_COPIES',
    flag: 'expert-copies',
    schema: integer(LIMITS.expertCopies),
    default: 1,
    doc: 'Shards that have each expert at least, as far as there are so many; with 2 any one may die.',
  },
  hotCopies: {
    env: 'CAUSEWAY_EXPERT_HOT_COPIES',
    flag: 'expert-hot-copies',
    schema: integer(LIMITS.expertHotCopies),
    default: 0,
    doc: 'Further copies in each layer, of its most used experts.',
  },
  redisUrl,
  namespace,
  host,
  advertiseHost,
  advertiseInterface,
  rpcPort,
  observabilityPort,
  watchSections,
  leaseMs,
  drainMs,
  startupDeadlineMs,
  delayMs: {
    env: 'CAUSEWAY_EXPERT_DELAY_MS',
    flag: 'expert-delay-ms',
    schema: number({ min: 0, max: 60_000 }),
    default: 0,
    doc: 'For tests: every run waits this long first. Never set it in service.',
  },
  logLevel,
});

export type ExpertConfig = ConfigOf<typeof expertConfig>;
