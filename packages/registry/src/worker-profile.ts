/** What a worker was measured to do (`causeway profile`), kept in Redis beside its record. */
import { ServiceError } from '@causeway/errors';
import { z } from 'zod';
import type { RedisConnection } from './connection.ts';
import { isWorkerId, workerProfileKey } from './keys.ts';
import { linkSchema } from './worker-record.ts';

/** How long a profile is kept. */
const KEPT_MS = 30 * 24 * 3_600_000;
const MAX_BYTES = 256 * 1024;

const amount = z.number().min(0).max(1e15);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const text = z.string().min(1).max(256);

const workerProfileSchema = z.object({
  version: z.literal(1),
  worker: z.string().refine(isWorkerId, 'must be the id of a worker'),
  /** Of the process that was measured. */
  incarnation: text,
  role: z.enum(['prefill', 'decode']),
  model: text,
  chip: text,
  /** As pages hold KV: `bf16 NZ 128`. */
  storage: text,
  /** Milliseconds since 1970. */
  measuredAt: count,
  /** Bytes of KV of a token, in pages. */
  kvBytesPerToken: amount,
  /** Prompts alone on the worker. */
  prefill: z.array(z.object({ tokens: count, seconds: amount })).max(64),
  /** So many sequences together after prompts of so many tokens: what a step takes. */
  decode: z.array(z.object({ batch: count, context: count, stepMs: amount })).max(256),
  /** Ways over which it sent KV, with the last transfer: first frame to committed. */
  links: z.array(linkSchema.extend({ tokens: count, rawBytes: amount, sentBytes: amount, transferMs: amount })).max(256),
});

export type WorkerProfile = z.infer<typeof workerProfileSchema>;

/** Keeps a profile for 30 days, in place of the one before it. @throws ServiceError `bad_registration` when it is not valid */
export async function writeWorkerProfile({ client }: RedisConnection, profile: WorkerProfile): Promise<void> {
  const checked = workerProfileSchema.safeParse(profile);
  if (!checked.success) {
    const issues = z.prettifyError(checked.error);
    throw new ServiceError(`the profile is not valid: ${issues}`, { code: 'invalid_argument', reason: 'bad_registration' });
  }
  await client.set(workerProfileKey(profile.worker), JSON.stringify(checked.data), 'PX', KEPT_MS);
}

/** Profiles of these workers, of those that have one; what can't be read is left out. */
export async function readWorkerProfiles(
  { client }: RedisConnection,
  ids: readonly string[],
): Promise<Map<string, WorkerProfile>> {
  const known = ids.filter(isWorkerId);
  const values = known.length === 0 ? [] : await client.mget(...known.map(workerProfileKey));
  const profiles = new Map<string, WorkerProfile>();
  for (const [i, value] of values.entries()) {
    const profile = value === null || value.length > MAX_BYTES ? undefined : parsed(value);
    if (profile !== undefined && profile.worker === known[i]) profiles.set(profile.worker, profile);
  }
  return profiles;
}

function parsed(value: string): WorkerProfile | undefined {
  try {
    const result = workerProfileSchema.safeParse(JSON.parse(value));
    return result.success ? result.data : undefined;
  } catch {
    return undefined;
  }
}
