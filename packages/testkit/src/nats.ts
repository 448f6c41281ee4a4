import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'nats';
import { findBinary } from './child.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { RestartableServer } from './restartable.ts';

export interface NatsOptions {
  /** Largest message in bytes; default 1 MiB, nats-server's own. */
  maxPayload?: number;
  /** Opens the monitoring port for `varz()`; default true. */
  monitoring?: boolean;
  /** Default: a free one. */
  port?: number;
  /** More lines for its configuration file. */
  extraConfig?: string;
  /** A user of `extraConfig` as whom the start is checked. */
  login?: { user: string; password: string };
}

/** Counters of `/varz`. Bytes and messages as seen by the server: `in` is what clients sent. */
export interface NatsVarz {
  in_bytes: number;
  out_bytes: number;
  in_msgs: number;
  out_msgs: number;
  connections: number;
  max_payload: number;
  slow_consumers: number;
}

/** A real nats-server with a folder of its own. */
export interface NatsServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly monitoringUrl: string;
  readonly server: RestartableServer;
  varz(): Promise<NatsVarz>;
  stop(): Promise<void>;
  start(): Promise<void>;
  signal(name: 'KILL' | 'STOP' | 'CONT' | 'TERM'): Promise<void>;
}

/** Starts nats-server on 127.0.0.1 and waits until a client connects. Throws naming Debian's package when it is not installed. */
export async function startNats(options: NatsOptions = {}): Promise<NatsServer> {
  const command = findBinary('nats-server', 'nats-server');
  const folder = await mkdtemp(join(tmpdir(), 'causeway-nats-'));
  const port = options.port ?? (await freePort());
  const monitoringPort = options.monitoring === false ? 0 : await freePort();
  const config = join(folder, 'nats.conf');
  const lines = [
    'listen: "127.0.0.1:' + port + '"',
    `max_payload: ${options.maxPayload ?? 1_048_576}`,
    ...(monitoringPort === 0 ? [] : ['http: "127.0.0.1:' + monitoringPort + '"']),
    options.extraConfig ?? '',
  ];
  await writeFile(config, `${lines.join('\n')}\n`);
  const url = `nats://127.0.0.1:${port}`;
  const login = options.login === undefined ? {} : { user: options.login.user, pass: options.login.password };
  const monitoringUrl = `http://127.0.0.1:${monitoringPort}`;
  const server = new RestartableServer(
    { command, args: ['-c', config] },
    async (child) => {
      await child.waitForLine(/Server is ready/);
      const connection = await eventually(() => connect({ servers: url, timeout: 1000, ...login }), {
        what: `nats-server on ${port}`,
      });
      await connection.close();
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
    monitoringUrl,
    server,
    varz: async () => {
      const response = await fetch(`${monitoringUrl}/varz`);
      return (await response.json()) as NatsVarz;
    },
    stop: () => server.stop(),
    start: () => server.start(),
    signal: (name) => server.signal(name),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
