import { subjectPermissions } from '@causeway/kv-transport/subjects';
import type { ProcessSpec } from './processes.ts';
import type { Topology } from './schema.ts';

export interface NatsConfigOptions {
  /** `host:port` for clients, and of the monitoring endpoint. */
  listen: string;
  http: string;
  /** A worker's password, as it stands in the file: a quoted string or `$VARIABLE`. */
  password: (worker: string) => string;
}

/** nats-server's configuration for these processes: each worker is a user of its own that may publish and hear no more than it needs. */
export function renderNatsConfig(topology: Topology, specs: readonly ProcessSpec[], options: NatsConfigOptions): string {
  const users = natsUsers(topology.namespace, specs, options.password);
  // Accounts are NATS's own namespaces: no subject of one is heard in another.
  const access =
    topology.namespace === undefined
      ? ['authorization {', ...users, '}']
      : ['accounts {', ...natsAccount(topology.namespace, users), '}'];
  return [
    `listen: ${JSON.stringify(options.listen)}`,
    `http: ${JSON.stringify(options.http)}`,
    `max_payload: ${topology.nats.maxPayload}`,
    ...access,
    '',
  ].join('\n');
}

/** A worker's user name: nats-server knows users by name in all its accounts, so that of a namespace begins with it. */
export function natsUser(namespace: string | undefined, worker: string): string {
  return namespace === undefined ? worker : `${namespace}-${worker}`;
}

/** The `users` of an authorization or an account, as lines. */
export function natsUsers(
  namespace: string | undefined,
  specs: readonly ProcessSpec[],
  password: (worker: string) => string,
): string[] {
  const users = specs.flatMap(({ name, role }) => {
    if (role === 'router') return [];
    const { publish, subscribe } = subjectPermissions(role, name);
    return [
      `    { user: ${JSON.stringify(natsUser(namespace, name))}, password: ${password(name)},`,
      `      permissions: { publish: ${JSON.stringify(publish)}, subscribe: ${JSON.stringify(subscribe)} } }`,
    ];
  });
  return ['  users = [', ...users, '  ]'];
}

/** An account of a namespace; the configuration of a server for several clusters lists one for each under `accounts`. */
export function natsAccount(namespace: string, users: readonly string[]): string[] {
  return [`  ${JSON.stringify(namespace)} {`, ...users, '  }'];
}
