import { ServiceError } from '@causeway/errors';
import { descriptorSchema, fingerprintSchema } from '@causeway/kv';
import { z } from 'zod';
import { isWorkerId } from './keys.ts';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const MAX_U31 = 0x7fff_ffff;
const rate = z.number().min(0).max(1e12);
const name = z.string().min(1).max(256);
const address = z.string().regex(/^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[1-9]\d{0,4}$/, 'must be host:port');

/** What stays the same while a worker lives. */
const identitySchema = z.object({
  version: z.literal(1),
  id: z.string().refine(isWorkerId, 'must be 1-128 letters, digits, dots, dashes or underscores'),
  /** New at each start of the process. */
  incarnation: z.string().regex(/^[A-Za-z0-9-]{8,64}$/, 'must be 8-64 letters, digits or dashes'),
  role: z.enum(['prefill', 'decode']),
  model: name,
  architecture: name,
  contextLength: count.min(1),
  vocabSize: count.min(1),
  eosTokenIds: z.array(count).max(64),
  chip: name,
  /** True when the chip is imitated on another. */
  emulated: z.boolean(),
  /** Its deployment lets KV be rounded on its way; left out: no. */
  kvLossy: z.boolean().optional(),
  fingerprint: fingerprintSchema,
  descriptor: descriptorSchema,
  /** gRPC, `host:port`. */
  address,
  /** Metrics and health over HTTP, `host:port`. */
  observability: address,
  capacity: z.object({ totalPages: count, blockTokens: count.min(1), maxSequences: count }),
  /** Prefill workers that hand over groups of layers: in which order they compute. */
  computeOrder: z.object({ chunkTokens: count.min(1).max(MAX_U31), layerGroups: count.min(2).max(1024) }).optional(),
  /** Milliseconds since 1970, by the worker's clock; for people. */
  startedAt: count,
});

const codecSchema = z.object({
  codec: z.string().max(32),
  ratio: rate,
  encodeBytesPerSecond: rate,
  /** Left out before a transfer with it has committed. */
  decodeBytesPerSecond: rate.optional(),
});

/** A way over which a worker sends KV, as it measured it. */
export const linkSchema = z.object({
  /** Id of the worker at its other end. */
  to: name,
  /** What it carries; left out before anything was measured. */
  bytesPerSecond: rate.optional(),
  /** Element type in which numbers travelled last. */
  wire: z.string().max(16),
  codec: z.string().max(32),
  /** Why that codec. */
  reason: z.string().max(512),
  /** From a hello to its answer, through NATS there and back. */
  roundTripMs: z.number().min(0).max(1e9).optional(),
  /** What codecs did with this worker's KV: raw bytes over sent ones, raw bytes a second of one thread. */
  codecs: z.array(codecSchema).max(8).optional(),
});

/** Links that a worker tells of. */
export const MAX_LINKS = 32;

/** What changes from heartbeat to heartbeat. */
const stateSchema = z.object({
  load: z.object({ running: count, waiting: count, queuedPromptTokens: count, freePages: count }),
  /** Measured; 0 while nothing was measured. */
  rates: z.object({ prefillTokensPerSecond: rate, decodeTokensPerSecond: rate }),
  /** The last ones that were used; left out: none. */
  links: z.array(linkSchema).max(MAX_LINKS).optional(),
  draining: z.boolean(),
});

const beatSchema = stateSchema.extend({ beat: count, leaseMs: count.min(1) });

export const workerRecordSchema = z.object({ ...identitySchema.shape, ...stateSchema.shape });

/** A worker as registered. */
export type WorkerRecord = z.infer<typeof workerRecordSchema>;
export type WorkerIdentity = z.infer<typeof identitySchema>;
export type WorkerState = z.infer<typeof stateSchema>;
export type WorkerLink = z.infer<typeof linkSchema>;

/** A record with its heartbeat's number. */
export interface Registration {
  worker: WorkerRecord;
  /** Grows with every write of one incarnation. */
  beat: number;
  leaseMs: number;
}

/** Largest value that is read from Redis, in bytes: room for 1024 layers. */
export const MAX_RECORD_BYTES = 256 * 1024;

/** Checks a record before it is written. Throws ServiceError `bad_registration` naming every field at fault. */
export function checkWorkerRecord(record: WorkerRecord): WorkerRecord {
  const result = workerRecordSchema.safeParse(record);
  if (result.success) return result.data;
  throw new ServiceError(`this worker's record is not valid: ${issues(result.error)}`, {
    code: 'invalid_argument',
    reason: 'bad_registration',
  });
}

/** Value of a worker's key: two lines of JSON, identity and state, so that readers parse the long one only when it changes. */
export function encodeRegistration(registration: Registration): string {
  const { load, rates, links, draining, ...identity } = registration.worker;
  const { beat, leaseMs } = registration;
  return `${JSON.stringify(identity)}\n${JSON.stringify({ load, rates, links, draining, beat, leaseMs })}`;
}

/** What a reader remembers of one key between two reads. */
export interface DecodeCache {
  line: string;
  identity: WorkerIdentity;
}

/**
 * Reads a worker's value; nothing in it is trusted. `id` is the one in the key.
 * Gives the registration and what to remember, or the reason for which the value is not a registration.
 */
export function decodeRegistration(
  id: string,
  value: string,
  cache: DecodeCache | undefined,
): { kind: 'ok'; registration: Registration; cache: DecodeCache } | { kind: 'rubbish'; why: string } {
  if (value.length > MAX_RECORD_BYTES) return { kind: 'rubbish', why: `longer than ${MAX_RECORD_BYTES} bytes` };
  const end = value.indexOf('\n');
  if (end === -1) return { kind: 'rubbish', why: 'not two lines of JSON' };
  const line = value.slice(0, end);
  let identity = cache?.line === line ? cache.identity : undefined;
  if (identity === undefined) {
    const parsed = parse(identitySchema, line);
    if (typeof parsed === 'string') return { kind: 'rubbish', why: parsed };
    if (parsed.id !== id) return { kind: 'rubbish', why: `the record says id ${parsed.id}` };
    identity = deepFreeze(parsed);
  }
  const state = parse(beatSchema, value.slice(end + 1));
  if (typeof state === 'string') return { kind: 'rubbish', why: state };
  const { beat, leaseMs, ...rest } = state;
  const worker = deepFreeze({ ...identity, ...rest });
  return { kind: 'ok', registration: { worker, beat, leaseMs }, cache: { line, identity } };
}

function parse<S extends z.ZodType>(schema: S, text: string): z.output<S> | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'not JSON';
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version > 1) return `a record of version ${version}; this process understands 1`;
  const result = schema.safeParse(value);
  return result.success ? result.data : issues(result.error);
}

function issues(error: z.ZodError): string {
  const all = error.issues.map((issue) => `${issue.path.join('.') || 'value'}: ${issue.message}`);
  return all.length > 5 ? `${all.slice(0, 5).join('; ')}; and ${all.length - 5} more` : all.join('; ');
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
