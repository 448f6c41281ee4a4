/** Thread that hashes the files it is started with and answers once; started by `hashFiles`. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type FileIdentity, fileIdentity, type HashReply } from './weights-hash.ts';

const CHUNK_BYTES = 4 * 1024 * 1024;

function hashAll(files: readonly FileIdentity[]): HashReply {
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (const file of files) {
    const fd = openSync(file.path, 'r');
    try {
      if (!isSame(file, fd)) return { changed: file.path };
      for (let got = readSync(fd, chunk); got > 0; got = readSync(fd, chunk)) hash.update(chunk.subarray(0, got));
      if (!isSame(file, fd)) return { changed: file.path };
    } finally {
      closeSync(fd);
    }
  }
  return { hash: hash.digest('hex') };
}

function isSame(file: FileIdentity, fd: number): boolean {
  const now = fileIdentity(file.path, fstatSync(fd));
  return now.device === file.device && now.inode === file.inode && now.size === file.size && now.modifiedMs === file.modifiedMs;
}

let reply: HashReply;
try {
  reply = hashAll(workerData as FileIdentity[]);
} catch (error) {
  reply = { unreadable: error instanceof Error ? error.message : String(error) };
}
parentPort?.postMessage(reply);
