import { isWorkerId } from '@causeway/registry';
import { z } from 'zod';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const address = z.string().regex(/^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[1-9]\d{0,4}$/, 'must be host:port');

const shardRecordSchema = z.object({
  version: z.literal(1),
  id: z.string().refine(isWorkerId, 'must be 1-128 letters, digits, dots, dashes or underscores'),
  /** New at each start of the process. */
  incarnation: z.string().min(8).max(64),
  model: z.string().min(1).max(256),
  fingerprint: z.string().min(1).max(128),
  /** gRPC and observability, `host:port`. */
  address,
  observability: address,
  /** Experts that its memory holds, over all layers, and those it holds. */
  capacity: count,
  held: count,
  usedBytes: count,
  budgetBytes: count,
  draining: z.boolean(),
  /** How placements are made of this model: least copies, further ones of hot experts, groups of its router. */
  placing: z.object({ copies: count, hotCopies: count, groups: count.min(1) }),
  /** Placements whose experts are loaded. */
  epochs: z.array(count).max(64),
  /** A placement that it could not load, and why. */
  refused: z.object({ epoch: count, reason: z.string().max(2048) }).optional(),
  /** Frames in line, and pairs computed since start. */
  queued: count,
  pairs: count,
  leaseMs: count.min(1),
});

/** An expert shard as registered. */
export type ShardRecord = Readonly<z.infer<typeof shardRecordSchema>>;

/** Largest record that is read, in bytes. */
export const MAX_SHARD_RECORD_BYTES = 16 * 1024;

/** Reads a record; undefined when the value is none. */
export function parseShardRecord(id: string, text: string): ShardRecord | undefined {
  if (text.length > MAX_SHARD_RECORD_BYTES) return undefined;
  try {
    const result = shardRecordSchema.safeParse(JSON.parse(text));
    return result.success && result.data.id === id ? result.data : undefined;
  } catch {
    return undefined;
  }
}
