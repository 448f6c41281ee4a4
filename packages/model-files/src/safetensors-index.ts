/** model.safetensors.index.json: which file of a directory holds which tensor. */
import { basename, join } from 'node:path';
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { exists, FILE_LIMITS, readJson } from './small-file.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const MOST_SHARDS = 4096;
const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/** Files that hold the weights, and which of them each tensor is said to be in (undefined: a single file). */
export interface ShardTable {
  /** Plain file names, sorted. */
  files: readonly string[];
  fileOf: ReadonlyMap<string, string> | undefined;
}

/** Whether a directory holds weights as safetensors. */
export function hasSafetensors(dir: string): boolean {
  return exists(join(dir, SINGLE)) || exists(join(dir, INDEX));
}

/**
 * Reads the table of shards. A directory without an index has one file.
 * @throws ServiceError `malformed_file` for a name that leaves the directory, `file_unreadable` for a missing shard.
 */
export function readShardTable(dir: string): ShardTable {
  const index = join(dir, INDEX);
  if (!exists(index)) return { files: [SINGLE], fileOf: undefined };
  const parsed = indexSchema.safeParse(readJson(index, FILE_LIMITS.index));
  if (!parsed.success) fail('invalid_argument', 'malformed_file', `${index}: ${z.prettifyError(parsed.error)}`);
  const fileOf = new Map(Object.entries(parsed.data.weight_map));
  const files = [...new Set(fileOf.values())].sort();
  if (files.length === 0 || files.length > MOST_SHARDS)
    fail('invalid_argument', 'malformed_file', `${index} names ${files.length} files; 1 to ${MOST_SHARDS} are possible`);
  for (const name of files) {
    if (name !== basename(name) || !/^[\w][\w.-]*$/.test(name))
      fail(
        'invalid_argument',
        'malformed_file',
        `${index}: the shard ${JSON.stringify(name.slice(0, 200))} is not a plain file name`,
      );
    if (!exists(join(dir, name))) fail('not_found', 'file_unreadable', `${index}: the shard ${name} is missing`);
  }
  return { files, fileOf };
}
