/** Files of a checkpoint that are read whole: JSON and templates. Size and kind are checked before a byte is read. */
import { existsSync, readFileSync, type Stats, statSync } from 'node:fs';
import { fail } from '@causeway/errors';

const MEGABYTE = 1_000_000;
/** Largest files read whole, in bytes: the biggest tokenizers are about 35 MB, the biggest shard indexes about 10 MB. */
export const FILE_LIMITS = {
  config: 10 * MEGABYTE,
  index: 100 * MEGABYTE,
  tokenizer: 200 * MEGABYTE,
  template: MEGABYTE,
} as const;

/** Whether there is something at `path`, followed through links. */
export function exists(path: string): boolean {
  return existsSync(path);
}

/**
 * Checks that `path` is a regular file: opening a pipe would wait for ever.
 * @throws ServiceError `file_unreadable` naming the path.
 */
export function regularFile(path: string): Stats {
  let stat: Stats | undefined;
  try {
    stat = statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    fail('not_found', 'file_unreadable', `cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
  if (stat === undefined) fail('not_found', 'file_unreadable', `${path} is missing`);
  if (!stat.isFile()) fail('invalid_argument', 'file_unreadable', `${path} is not a regular file`);
  return stat;
}

/** Reads a text file of at most `limit` bytes. @throws ServiceError `file_unreadable`, or `malformed_file` when it is larger. */
export function readText(path: string, limit: number): string {
  const { size } = regularFile(path);
  if (size > limit) fail('invalid_argument', 'malformed_file', `${path} has ${size} bytes; the limit is ${limit}`);
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    fail('not_found', 'file_unreadable', `cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Reads a JSON file of at most `limit` bytes. @throws ServiceError as `readText`, and `malformed_file` when it is no JSON. */
export function readJson(path: string, limit: number): unknown {
  const text = readText(path, limit);
  try {
    return JSON.parse(text);
  } catch (cause) {
    fail('invalid_argument', 'malformed_file', `${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}
