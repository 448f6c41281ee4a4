import { readFileSync } from 'node:fs';
import { fail } from '@causeway/errors';

/** Where keys come from: the settings CAUSEWAY_API_KEYS and CAUSEWAY_API_KEYS_FILE. */
export interface ApiKeySources {
  /** Comma-separated. */
  readonly list: string | undefined;
  /** A file with a key in each line. */
  readonly file: string | undefined;
}

/** What an HTTP header carries without quoting, and more would be a mistake. */
const KEY = /^[\x21-\x2b\x2d-\x7e]{1,256}$/;

/**
 * The keys of both sources; empty when neither is set, which means that none is needed. A source that is set but holds none is an
 * error: nobody who wants keys must be left without.
 * @throws ServiceError `bad_config` that shows no key
 */
export function readApiKeys({ list, file }: ApiKeySources): readonly string[] {
  const listed = list === undefined ? [] : keysIn(list.split(','), 'CAUSEWAY_API_KEYS');
  const filed = file === undefined ? [] : keysIn(fileLines(file), `CAUSEWAY_API_KEYS_FILE (${file})`);
  return [...new Set([...listed, ...filed])];
}

function fileLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split(/\r?\n/);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    return fail('invalid_argument', 'bad_config', `CAUSEWAY_API_KEYS_FILE: cannot read ${path} (${code})`, { cause });
  }
}

function keysIn(parts: readonly string[], source: string): string[] {
  const keys = parts.map((part) => part.trim()).filter((part) => part !== '');
  if (keys.length === 0) fail('invalid_argument', 'bad_config', `${source} holds no key`);
  const bad = keys.findIndex((key) => !KEY.test(key));
  if (bad === -1) return keys;
  const rule = '1 to 256 printable ASCII characters without spaces and commas';
  return fail('invalid_argument', 'bad_config', `${source}: key ${bad + 1} must be ${rule}`);
}
