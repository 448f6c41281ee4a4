import { CHIP_NAMES } from '@causeway/chips';
import { byteSize, integer, LIMITS, NAMESPACE, oneOf, REASONING_PARSERS, TOOL_PARSERS } from '@causeway/config';
import { z } from 'zod';
import { parseCores, parseDurationMs } from './units.ts';

/** A text field that `parse` turns into a value; `shape` says in the error what would have been right. */
function parsed<T>(parse: (text: string) => T | undefined, shape: string) {
  return z.union([z.string(), z.number()], { error: `must be ${shape}` }).transform((value, context) => {
    const result = parse(String(value));
    if (result !== undefined) return result;
    context.addIssue({ code: 'custom', message: `must be ${shape}, not "${value}"` });
    return z.NEVER;
  });
}

/** Milliseconds within bounds. */
function duration({ min, max }: { min: number; max: number }) {
  const parse = (text: string): number | undefined => {
    const ms = parseDurationMs(text);
    return ms !== undefined && ms >= min && ms <= max ? ms : undefined;
  };
  return parsed(parse, `a duration such as 30s or 500ms, from ${min}ms to ${Math.floor(max / 86_400_000)} days`);
}

const cores = parsed(parseCores, 'a list of cores such as 0-3,8');
const count = z.int().min(1).max(64);
const name = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, 'must be lower-case letters, digits and dashes, at most 32');

const model = z.string().min(1).max(1024);

const pool = {
  name,
  count: count.default(1),
};

const computePool = {
  ...pool,
  /** What the pool serves; default: the file's model. Routers serve whatever any pool serves. */
  model: model.optional(),
  /** Threads that compute; `auto` shares the machine's cores among the pools that say so. */
  threads: z.union([z.literal('auto'), integer(LIMITS.threads)], { error: 'must be auto or a number' }).optional(),
  cores: cores.optional(),
  precision: z.enum(['fast', 'exact']).optional(),
  lease: duration(LIMITS.leaseMs).optional(),
};

const workerPool = {
  ...computePool,
  chip: oneOf(CHIP_NAMES).default('cpu'),
  kvBudget: byteSize(LIMITS.kvBudgetBytes).optional(),
  /** Left out where its chip cannot be had, and of what is written for containers. */
  optional: z.boolean().optional(),
  /** Imitates the chip's KV on the CPU. */
  emulated: z.boolean().optional(),
  kvDtype: z.enum(['f32', 'f16', 'bf16', 'f8e4m3', 'int8', 'int4']).optional(),
  kvLayout: z.enum(['NHD', 'HND', 'NZ']).optional(),
  /** Lets `causeway kv dump` read the KV of prompts whose answers are being written. */
  kvInspect: z.boolean().optional(),
  /** Lets KV be rounded on its way; both ends must. */
  kvLossy: z.boolean().optional(),
  /** In which type to send KV though it rounds; needs kvLossy. */
  kvWire: z.enum(['auto', 'f16', 'bf16', 'int8', 'int4']).optional(),
  blockTokens: integer(LIMITS.blockTokens).optional(),
  codec: z.enum(['auto', 'none', 'zstd', 'planes+zstd']).optional(),
  maxContext: integer(LIMITS.maxContext).optional(),
  maxSequences: integer(LIMITS.maxSequences).optional(),
  chunkTokens: integer(LIMITS.chunkTokens).optional(),
};

/** Shards that hold the routed experts of a mixture-of-experts model, for all workers. */
const expertPool = {
  ...computePool,
  /** For weights, of each shard. */
  memory: byteSize({ min: 1 }).optional(),
  /** Shards that have each expert at least. */
  copies: integer(LIMITS.expertCopies).optional(),
  /** Further copies of the hottest experts of each layer. */
  hotCopies: integer(LIMITS.expertHotCopies).optional(),
  /** `exact`: every expert's answer by itself, added up by the worker with the bits of one process. */
  mode: z.enum(['default', 'exact']).optional(),
  rows: z.enum(['f32', 'bf16', 'f16']).optional(),
  /** How long a token waits for a shard that comes back. */
  wait: duration({ min: 0, max: LIMITS.leaseMs.max }).optional(),
};

const routerPool = {
  ...pool,
  placement: z.enum(['auto', 'disaggregated', 'local']).optional(),
  localPrefillTokens: integer(LIMITS.localPrefillTokens).optional(),
  maxQueue: integer(LIMITS.maxQueue).optional(),
  maxBody: byteSize(LIMITS.maxBodyBytes).optional(),
  recovery: z.enum(['fast', 'exact']).optional(),
  defaultMaxTokens: integer(LIMITS.defaultMaxTokens).optional(),
  /** File with a chat template to be used instead of the checkpoint's own; a relative path starts at the topology file. */
  chatTemplate: z.string().min(1).max(1024).optional(),
  toolParser: z.enum(TOOL_PARSERS).optional(),
  reasoningParser: z.enum(REASONING_PARSERS).optional(),
};

const anyPool = z.discriminatedUnion('role', [
  z.strictObject({ role: z.literal('router'), ...routerPool }),
  z.strictObject({ role: z.literal('prefill'), ...workerPool, layerGroups: integer(LIMITS.layerGroups).optional() }),
  z.strictObject({ role: z.literal('decode'), ...workerPool }),
  z.strictObject({ role: z.literal('expert'), ...expertPool }),
]);

/** NATS refuses a larger `max_payload` (server source: MAX_PAYLOAD_MAX_SIZE warns above 8 MiB, hard limit 64 MiB). */
const MAX_NATS_PAYLOAD = 64 * 1024 * 1024;

/** A topology file. Unknown fields are errors: a misspelt option must not be silently the default. */
export const topologySchema = z.strictObject({
  version: z.literal(1, { error: 'must be 1' }),
  /** Of pools that name none: as `up --model` takes it; relative paths start at the topology file. */
  model: model.default('tiny-moe'),
  /** Keeps clusters that share NATS and Redis apart: an account at NATS, a prefix of keys in Redis. */
  namespace: z.string().regex(NAMESPACE, 'must be lower-case letters, digits and dashes, at most 32').optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
  /** How long a process may finish its work after SIGTERM. */
  drain: duration(LIMITS.drainMs).default(30_000),
  /** OpenTelemetry spans of every process; absent: none. */
  traces: z
    .strictObject({
      endpoint: z.url({ protocol: /^https?$/, error: 'must be an http(s) URL such as http://localhost:4318/v1/traces' }),
      ratio: z.number().min(0).max(1).default(1),
    })
    .optional(),
  nats: z
    .strictObject({
      maxPayload: byteSize({ min: 4096, max: MAX_NATS_PAYLOAD }).default(1_048_576),
    })
    .default({ maxPayload: 1_048_576 }),
  pools: z.array(anyPool, { error: 'must be a list of pools' }).min(1).max(64),
});

/** A checked topology: sizes in bytes, durations in milliseconds. */
export type Topology = z.infer<typeof topologySchema>;
export type Pool = Topology['pools'][number];
export type RouterPool = Extract<Pool, { role: 'router' }>;
export type WorkerPool = Extract<Pool, { role: 'prefill' | 'decode' }>;
export type ExpertPool = Extract<Pool, { role: 'expert' }>;
/** Pools whose processes compute. */
export type ComputePool = WorkerPool | ExpertPool;
export type Role = Pool['role'];
