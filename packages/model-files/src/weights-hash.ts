/** SHA-256 of weight files in a thread of its own: gigabytes are read and no event loop waits. Nothing is kept. */
import { once } from 'node:events';
import type { Stats } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { fail } from '@causeway/errors';
import { regularFile } from './small-file.ts';

/** A file as it was when the checkpoint was opened. */
export interface FileIdentity {
  path: string;
  device: number;
  inode: number;
  size: number;
  modifiedMs: number;
}

/** What the thread answers. */
export type HashReply = { hash: string } | { changed: string } | { unreadable: string };

/** Identity of the file that `stat` describes. */
export function fileIdentity(path: string, stat: Stats): FileIdentity {
  return { path, device: stat.dev, inode: stat.ino, size: stat.size, modifiedMs: stat.mtimeMs };
}

/** @throws ServiceError `file_unreadable` when the file is gone or is not the one that was opened. */
export function assertSameFile(file: FileIdentity): void {
  const { device, inode, size, modifiedMs } = fileIdentity(file.path, regularFile(file.path));
  if (device === file.device && inode === file.inode && size === file.size && modifiedMs === file.modifiedMs) return;
  refuseChanged(file.path);
}

function refuseChanged(path: string): never {
  fail('failed_precondition', 'file_unreadable', `${path} changed while it was in use; start again with a file at rest`);
}

/**
 * Hash over the bytes of the files, one after the other; lower-case hex.
 * @throws ServiceError `file_unreadable` when a file is gone or is not the one that was opened.
 */
export async function hashFiles(files: readonly FileIdentity[]): Promise<string> {
  const worker = new Worker(new URL('./hash-worker.ts', import.meta.url), {
    name: 'weights-hash',
    execArgv: [],
    workerData: files,
  });
  let reply: HashReply;
  try {
    [reply] = (await once(worker, 'message')) as [HashReply];
  } catch (cause) {
    fail('internal', 'internal', 'the thread that hashes the weights failed', { cause });
  } finally {
    await worker.terminate();
  }
  if ('hash' in reply) return reply.hash;
  if ('changed' in reply) refuseChanged(reply.changed);
  fail('not_found', 'file_unreadable', reply.unreadable);
}
