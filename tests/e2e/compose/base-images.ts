/**
 * Stand-ins for the official base images, where no registry of images can be reached: the machine's own programs with the libraries that
 * they load, imported as images.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { findBinary } from '@causeway/testkit';
import { command } from './command.ts';
import type { Daemon } from './daemon.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
const PATH = 'ENV PATH=/usr/local/bin:/usr/bin:/bin';
/** This machine's npm settings that say where packages come from. */
const NPM_KEYS = ['registry', 'https-proxy', 'proxy', 'noproxy'];

/** The variables of docker-compose.yml that name them. */
export interface BaseImages extends Readonly<Record<string, string>> {
  CAUSEWAY_BASE_IMAGE: string;
  CAUSEWAY_NATS_IMAGE: string;
  CAUSEWAY_REDIS_IMAGE: string;
  CAUSEWAY_PROMETHEUS_IMAGE: string;
}

/** Makes them: Node with npm and busybox; nats-server, redis-server and prometheus each alone with their libraries. */
export async function importBaseImages(daemon: Daemon): Promise<BaseImages> {
  return {
    CAUSEWAY_BASE_IMAGE: await importImage(daemon, 'node', placeNode, [
      PATH,
      `ENV SSL_CERT_FILE=${CERTIFICATES} NODE_EXTRA_CA_CERTS=${CERTIFICATES}`,
    ]),
    CAUSEWAY_NATS_IMAGE: await importImage(
      daemon,
      'nats',
      (root) => {
        place(root, findBinary('nats-server', 'nats-server'), '/nats-server');
        // As the official image (Alpine) has it.
        place(root, findBinary('busybox', 'busybox-static'), '/bin/wget');
      },
      [PATH, 'ENTRYPOINT ["/nats-server"]'],
    ),
    CAUSEWAY_REDIS_IMAGE: await importImage(
      daemon,
      'redis',
      (root) => {
        place(root, findBinary('redis-server', 'redis-server'), '/usr/local/bin/redis-server');
        place(root, findBinary('redis-cli', 'redis-tools'), '/usr/local/bin/redis-cli');
      },
      [PATH],
    ),
    // As in the official image: what to read, where to store, and a volume for it.
    CAUSEWAY_PROMETHEUS_IMAGE: await importImage(
      daemon,
      'prometheus',
      (root) => {
        place(root, findBinary('prometheus', 'prometheus'), '/bin/prometheus');
        place(root, findBinary('busybox', 'busybox-static'), '/bin/wget');
      },
      [
        'ENTRYPOINT ["/bin/prometheus"]',
        'CMD ["--config.file=/etc/prometheus/prometheus.yml","--storage.tsdb.path=/prometheus"]',
        'VOLUME /prometheus',
      ],
    ),
  };
}

async function importImage(
  daemon: Daemon,
  name: string,
  fill: (root: string) => void | Promise<void>,
  changes: readonly string[],
): Promise<string> {
  const root = join(daemon.folder, `image-${name}`);
  for (const folder of ['tmp', 'etc', 'root']) mkdirSync(join(root, folder), { recursive: true });
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n');
  await fill(root);
  await command('chmod', ['1777', join(root, 'tmp')]);
  const archive = `${root}.tar`;
  await command('tar', ['--directory', root, '--owner=0', '--group=0', '-cf', archive, '.']);
  const reference = `causeway-base/${name}`;
  await daemon.docker(['import', ...changes.flatMap((change) => ['--change', change]), archive, reference]);
  rmSync(root, { recursive: true });
  rmSync(archive);
  return reference;
}

/** Copies a program and the libraries that the loader gives it. */
function place(root: string, program: string, target: string): void {
  copy(program, join(root, target));
  for (const library of libraries(program)) copy(library, join(root, library));
}

function libraries(program: string): string[] {
  try {
    return execFileSync('ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).match(/\/\S+/g) ?? [];
  } catch {
    // Linked statically.
    return [];
  }
}

function copy(from: string, to: string): void {
  // A library of two programs.
  if (existsSync(to)) return;
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { dereference: true, recursive: true });
}

/** This Node, the machine's npm by version, busybox for a shell, certificates, and npm's settings. */
async function placeNode(root: string): Promise<void> {
  place(root, process.execPath, '/usr/local/bin/node');
  // Part of every system's C library; native packages load it, Node doesn't.
  for (const library of libraries(process.execPath).filter((path) => path.includes('/libc.so'))) {
    const realtime = join(dirname(library), 'librt.so.1');
    if (existsSync(realtime)) copy(realtime, join(root, realtime));
  }
  const busybox = findBinary('busybox', 'busybox-static');
  place(root, busybox, '/bin/busybox');
  for (const applet of (await command(busybox, ['--list'])).split('\n').filter((name) => name !== 'busybox')) {
    symlinkSync('/bin/busybox', join(root, 'bin', applet));
  }
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  symlinkSync('/bin/busybox', join(root, 'usr/bin/env'));
  await placeNpm(root);
}

async function placeNpm(root: string): Promise<void> {
  // npm under the Node that it was installed with: under another one it would not find its global settings.
  const path = (process.env['PATH'] ?? '').split(':').filter((folder) => !folder.startsWith(ROOT));
  const env: NodeJS.ProcessEnv = { ...process.env, PATH: path.join(':') };
  const npm = findBinary('npm', 'npm', env['PATH']);
  const version = await command(npm, ['--version'], { env });
  const install = ['install', '--global', '--prefix', join(root, 'usr/local'), '--ignore-scripts', '--no-audit', '--no-fund'];
  await command(npm, [...install, `npm@${version}`], { env, cwd: root, timeoutMs: 180_000 });

  const setting = async (key: string): Promise<string | undefined> => {
    const value = await command(npm, ['config', 'get', key], { env, cwd: root });
    return ['', 'null', 'undefined'].includes(value) ? undefined : value;
  };
  const lines: string[] = [];
  const certificates = [await setting('cafile'), env['NODE_EXTRA_CA_CERTS'], env['SSL_CERT_FILE'], CERTIFICATES];
  const trusted = certificates.find((file) => file !== undefined && existsSync(file));
  if (trusted !== undefined) {
    copy(trusted, join(root, CERTIFICATES));
    lines.push(`cafile=${CERTIFICATES}`);
  }
  for (const key of NPM_KEYS) {
    const value = await setting(key);
    if (value !== undefined) lines.push(`${key}=${value}`);
  }
  writeFileSync(join(root, 'root/.npmrc'), `${lines.join('\n')}\n`);
}
