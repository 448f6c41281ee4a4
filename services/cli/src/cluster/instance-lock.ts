import { createHash } from 'node:crypto';
import { mkdirSync, realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import type { RunPaths } from '../paths.ts';

/** Makes sure that one `up` at a time owns a run folder; undefined when another process holds it. */
export async function acquireInstanceLock(paths: RunPaths): Promise<AsyncDisposable | undefined> {
  return acquireFolderLock(paths.folder);
}

/** Makes sure that one process at a time works in a folder, which is made if need be; undefined when another one holds it. */
export async function acquireFolderLock(folder: string): Promise<AsyncDisposable | undefined> {
  mkdirSync(folder, { recursive: true });
  return acquireLock(createHash('sha256').update(realpathSync(folder)).digest('hex').slice(0, 32));
}

/**
 * A lock of this machine by name; undefined when somebody holds it. It is a name in Linux's abstract socket namespace: the kernel releases
 * it when its holder ends, however it ends, so it can never be stale.
 */
export async function acquireLock(name: string): Promise<AsyncDisposable | undefined> {
  const server = createServer((socket) => socket.destroy());
  const held = await new Promise<boolean>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
    server.listen({ path: `\0causeway-${name}` }, () => resolve(true));
  });
  if (!held) return undefined;
  server.unref();
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}
