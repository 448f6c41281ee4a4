/** What a Node timer can hold. */
const MAX_TIMER_MS = 2_147_483_647;

/**
 * Bounds of settings that a topology file and a process's own configuration both name: what one accepts, the other does.
 * Absent bounds are those of `integer` and `byteSize`.
 */
export const LIMITS = {
  threads: { min: 1, max: 1024 },
  spinUs: { min: 0, max: 100_000 },
  kvBudgetBytes: { min: 1 },
  blockTokens: { min: 1, max: 1024 },
  maxContext: { min: 16, max: 16_777_216 },
  maxSequences: { min: 1, max: 1024 },
  chunkTokens: { min: 4, max: 65_536 },
  layerGroups: { min: 1, max: 1024 },
  leaseMs: { min: 500, max: MAX_TIMER_MS },
  drainMs: { min: 0, max: MAX_TIMER_MS },
  localPrefillTokens: {},
  maxQueue: { max: 1_000_000 },
  maxBodyBytes: { min: 1, max: 256 * 1024 * 1024 },
  defaultMaxTokens: { min: 1 },
} as const satisfies Readonly<Record<string, { min?: number; max?: number }>>;

/** Names of namespaces: part of Redis keys, and of NATS account names. */
export const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;
