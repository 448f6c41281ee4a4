import { ServiceError } from '@causeway/errors';
import { awaitDependency } from '@causeway/lifecycle';
import { Redis } from 'ioredis';

/** The few calls of a logger made here; pino's shape. */
export interface RegistryLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface RedisConnectOptions {
  /** `redis://host:port[/db]`, with user and password when needed. */
  url: string;
  /** How long to wait for Redis at start. */
  deadlineMs: number;
  /** Keeps clusters on one Redis apart: keys begin with it and a colon. */
  namespace?: string | undefined;
  /** Shown in Redis's CLIENT LIST. */
  name?: string;
  signal?: AbortSignal;
  log?: RegistryLogger;
  /** A command without an answer fails after this time; default 1000 ms. */
  commandTimeoutMs?: number;
}

/** A connection that comes back by itself. While it is down every command fails at once. */
export interface RedisConnection extends AsyncDisposable {
  readonly client: Redis;
  readonly connected: boolean;
  /** Called at each loss and return of the connection. */
  onChange(listener: (connected: boolean) => void): Disposable;
}

/**
 * Connects to Redis, waiting for it up to the deadline and saying so in the log.
 * Throws ServiceError `unavailable/dependency_unavailable` when it doesn't answer in time, `bad_config` at once when it refuses the
 * password or the database.
 */
export async function connectRedis(options: RedisConnectOptions): Promise<RedisConnection> {
  const shown = describeUrl(options.url);
  const client = new Redis(options.url, {
    lazyConnect: true,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    connectTimeout: 2000,
    commandTimeout: options.commandTimeoutMs ?? 1000,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 500),
    ...(options.name === undefined ? {} : { connectionName: options.name }),
    ...(options.namespace === undefined ? {} : { keyPrefix: `${options.namespace}:` }),
  });
  const listeners = new Set<(connected: boolean) => void>();
  let connected = false;
  const change = (now: boolean): void => {
    if (connected === now) return;
    connected = now;
    if (now) options.log?.info({ redis: shown }, 'Redis is connected');
    else options.log?.warn({ redis: shown }, 'Redis is away; the last known state stays in use');
    for (const listener of listeners) listener(now);
  };
  client.on('ready', () => change(true));
  client.on('close', () => change(false));
  // Without a listener ioredis prints; causes are logged by who waits for the connection.
  let refusal: Error | undefined;
  client.on('error', (error: Error) => {
    if (REFUSED.test(error.message)) refusal = error;
  });

  const connection: RedisConnection = {
    client,
    get connected() {
      return connected;
    },
    onChange: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    [Symbol.asyncDispose]: async () => {
      listeners.clear();
      await endClient(client, connected);
    },
  };
  try {
    await awaitDependency({
      what: `Redis at ${shown}`,
      deadlineMs: options.deadlineMs,
      attempt: async () => {
        // ioredis says of a refused password only that the connection was closed, and of a refused database nothing.
        await firstAnswer(client).finally(() => refuse(refusal, shown));
      },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onRetry: (message, error) => options.log?.warn({ err: error }, message),
    });
  } catch (error) {
    client.disconnect();
    throw error;
  }
  return connection;
}

/** Answers of Redis that waiting does not mend: no password, a wrong one, no right to the commands, no such database. */
const REFUSED = /^(NOAUTH|WRONGPASS|NOPERM|ERR (AUTH|DB index|invalid password|Client sent AUTH))/;

function refuse(refusal: Error | undefined, shown: string): void {
  if (refusal === undefined) return;
  throw new ServiceError(
    `Redis at ${shown} refused this process: ${refusal.message}; correct user, password and database in its URL`,
    {
      code: 'permission_denied',
      reason: 'bad_config',
      cause: refusal,
    },
  );
}

async function firstAnswer(client: Redis): Promise<void> {
  if (client.status === 'wait' || client.status === 'end') await client.connect();
  await client.ping();
}

async function endClient(client: Redis, connected: boolean): Promise<void> {
  if (connected) await client.quit().catch(() => undefined);
  client.disconnect();
}

/** The URL without its password. */
function describeUrl(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null ? 'a malformed URL' : `${parsed.protocol}//${parsed.host}${parsed.pathname}`;
}
