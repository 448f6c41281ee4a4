import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findBinary } from './child.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { RestartableServer } from './restartable.ts';

export interface RedisOptions {
  /** Default: a free one. */
  port?: number;
  /** More arguments for redis-server. */
  args?: readonly string[];
}

/** A real redis-server that keeps nothing on disk: after `stop` and `start` it is empty. */
export interface RedisServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly server: RestartableServer;
  stop(): Promise<void>;
  start(): Promise<void>;
  signal(name: 'KILL' | 'STOP' | 'CONT' | 'TERM'): Promise<void>;
}

/** Starts redis-server on 127.0.0.1 and waits until it answers PING. Throws naming Debian's package when it is not installed. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const command = findBinary('redis-server', 'redis-server');
  const folder = await mkdtemp(join(tmpdir(), 'causeway-redis-'));
  const port = options.port ?? (await freePort());
  const url = `redis://127.0.0.1:${port}`;
  const server = new RestartableServer(
    {
      command,
      args: [
        '--port',
        String(port),
        '--bind',
        '127.0.0.1',
        '--save',
        '',
        '--appendonly',
        'no',
        '--dir',
        folder,
        ...(options.args ?? []),
      ],
    },
    async (child) => {
      await child.waitForLine(/Ready to accept connections/);
      await eventually(() => ping(url), { what: `redis-server on ${port}` });
    },
    () => rm(folder, { recursive: true, force: true }),
  );
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return {
    url,
    port,
    server,
    stop: () => server.stop(),
    start: () => server.start(),
    signal: (name) => server.signal(name),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function ping(url: string): Promise<boolean> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0, connectTimeout: 1000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return (await client.ping()) === 'PONG';
  } finally {
    client.disconnect();
  }
}
