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
  const users = specs.flatMap(({ name, role }) => {
    if (role === 'router' || role === 'expert') return [];
    const { publish, subscribe } = subjectPermissions(role, name);
    return [
      `    { user: ${JSON.stringify(name)}, password: ${options.password(name)},`,
      `      permissions: { publish: ${JSON.stringify(publish)}, subscribe: ${JSON.stringify(subscribe)} } }`,
    ];
  });
  return [
    `listen: ${JSON.stringify(options.listen)}`,
    `http: ${JSON.stringify(options.http)}`,
    `max_payload: ${topology.nats.maxPayload}`,
    'authorization {',
    '  users = [',
    ...users,
    '  ]',
    '}',
    '',
  ].join('\n');
}
