/** Temporary directories, errors and reference folders for tests. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceError } from '@causeway/errors';
import { expect } from 'vitest';

const ROOT = join(import.meta.dirname, '../../../..');

/** Folder of the built-in model. */
export const TINY_MOE = join(ROOT, 'models/tiny-moe');

/** Folder of a reference outside the repository, and whether it is there. */
export function sharedFolder(path: string): { path: string; absent: boolean } {
  const folder = join(ROOT, '../shared', path);
  return { path: folder, absent: !existsSync(folder) };
}

/** A directory that is removed when disposed. */
export interface Scratch extends Disposable {
  path: string;
  /** Writes a file (JSON for objects) and gives its path. */
  write(name: string, content: string | Uint8Array | object): string;
}

export function scratch(): Scratch {
  const path = mkdtempSync(join(tmpdir(), 'causeway-files-'));
  return {
    path,
    write: (name, content) => {
      const file = join(path, name);
      writeFileSync(file, typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content));
      return file;
    },
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** The ServiceError that `run` fails with; anything else fails the test. */
export async function refusal(run: () => unknown): Promise<ServiceError> {
  try {
    await run();
  } catch (error) {
    expect(error).toBeInstanceOf(ServiceError);
    return error as ServiceError;
  }
  throw new Error('nothing was refused');
}
