import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { REPOSITORY } from '../paths.ts';

/** Files that hold passwords and are not in the repository: for Compose, and for the Secret of each Kubernetes overlay. */
const FILES: readonly [string, (password: () => string) => string][] = [
  [
    '.env',
    (password) =>
      [
        '# Read by docker compose. Passwords made by `./causeway compose`; yours to change. Not in the repository.',
        `CAUSEWAY_NATS_PASSWORD=${password()}`,
        `CAUSEWAY_REDIS_PASSWORD=${password()}`,
        `CAUSEWAY_GRAFANA_PASSWORD=${password()}`,
        '# Keys, comma-separated, of which clients must send one; empty: anybody may ask.',
        'CAUSEWAY_API_KEYS=',
        '',
      ].join('\n'),
  ],
  ...['local', 'islands'].map((overlay): [string, (password: () => string) => string] => [
    `deploy/kubernetes/overlays/${overlay}/secrets.env`,
    (password) => {
      const redis = password();
      return [
        '# The Secret `causeway-secrets`. Made by `./causeway compose`; yours to change. Not in the repository.',
        `CAUSEWAY_NATS_PASSWORD=${password()}`,
        `CAUSEWAY_REDIS_PASSWORD=${redis}`,
        `CAUSEWAY_REDIS_URL=redis://:${redis}@redis:6379`,
        '# Keys, comma-separated, of which clients must send one; empty: anybody may ask.',
        'CAUSEWAY_API_KEYS=',
        '',
      ].join('\n');
    },
  ]),
];

/** Makes the files that aren't there, with new passwords, readable by their owner alone; gives their names. Never changes one that is. */
export function makeSecrets(root = REPOSITORY): string[] {
  return FILES.flatMap(([name, render]) => {
    const path = join(root, name);
    if (existsSync(path)) return [];
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, render(newPassword), { mode: 0o600, flag: 'wx' });
    return [name];
  });
}

/** A letter first: nats-server reads a variable of digits as a number. URLs take it as it is. */
function newPassword(): string {
  return `p${randomBytes(24).toString('hex')}`;
}
