import { createHash } from 'node:crypto';
import { mkdirSync, realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import type { RunPaths } from '../paths.ts';

/**
 * Makes sure that one `up` at a time owns a run folder. The lock is a name in Linux's abstract socket namespace: the kernel
 * releases it when its holder ends, however it ends, so it can never be stale. Undefined when another process holds it.
 */
export async function acquireInstanceLock(paths: RunPaths): Promise<AsyncDisposable | undefined> {
  mkdirSync(paths.folder, { recursive: true });
  const name = createHash('sha256').update(realpathSync(paths.folder)).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  const held = await new Promise<boolean>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
    server.listen({ path: `\0causeway-${name}` }, () => resolve(true));
  });
  if (!held) return undefined;
  server.unref();
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}
