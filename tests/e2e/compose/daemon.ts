/**
 * A Docker daemon of the test's own. It lives in mount and process namespaces of its own with its data in one folder, so that one signal
 * ends the daemon and every container, and takes their mounts along. It leaves the machine's firewall alone: containers reach each other
 * over their bridge, and docker-proxy carries published ports.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Child, eventually, findBinary } from '@causeway/testkit';
import { command, type CommandOptions } from './command.ts';

/** The network interfaces of the project's networks; they are the one thing that a killed daemon leaves in the kernel. */
export const BRIDGES = { front: 'cway-test-front', control: 'cway-test-ctrl', kv: 'cway-test-kv' } as const;

const CGROUPS = '/sys/fs/cgroup';
/** What dockerd and containerd make outside their folders. */
const STRAY_FOLDERS = ['/etc/docker', '/opt/containerd'];

/** $1: the folder; the rest: dockerd and its arguments. /run is empty there: no other containerd, no lock of another iptables. */
const IN_NAMESPACES = `
set -e
folder=$1
shift
resolv=$(readlink -f /etc/resolv.conf)
cp "$resolv" "$folder/resolv.conf"
mount -t tmpfs tmpfs /run
case "$resolv" in /run/*) mkdir -p "\${resolv%/*}" && cp "$folder/resolv.conf" "$resolv" ;; esac
exec docker-init -- "$@"
`;

/**
 * Run beside the daemon: removes what it made once standard input ends, as it does when the test says so or is killed itself.
 * A cgroup goes by rmdir, when no process is in it any more.
 */
const REMOVE = `
folder=$1 cgroup=$2 bridges=$3
shift 3
cat >/dev/null
for try in $(seq 150); do
  find ${CGROUPS} -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null
  rm -rf "$folder" 2>/dev/null
  [ -e "$folder" ] || [ -n "$(find ${CGROUPS} -type d -name "$cgroup")" ] || break
  sleep 0.2
done
for bridge in $bridges; do ip link delete "$bridge" 2>/dev/null; done
for stray in "$@"; do
  rm -f "$stray/key.json"
  find "$stray" -depth -type d -empty -delete
done
`;

export interface Daemon {
  /** Everything that it stores. */
  readonly folder: string;
  /** Environment of its clients: no configuration or credentials of the user's. */
  readonly clientEnv: Readonly<Record<string, string>>;
  readonly storageDriver: string;
  docker(args: readonly string[], options?: CommandOptions): Promise<string>;
  /** Ends it with all its containers and removes what it made. Gives what is left of it: nothing, or it is a fault. */
  remove(): Promise<string[]>;
}

/** Whether this user can start one: root, with Docker's programs, where namespaces can be made. */
export function daemonPossible(): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    for (const program of ['dockerd', 'docker', 'docker-init', 'docker-compose']) findBinary(program, 'docker.io');
  } catch {
    return false;
  }
  return spawnSync('unshare', ['--mount', '--pid', '--fork', '--mount-proc', 'true'], { timeout: 10_000 }).status === 0;
}

/** Starts the daemon; overlay2 where the file system takes it, otherwise vfs. */
export async function startDaemon(): Promise<Daemon> {
  let failure: unknown;
  for (const driver of ['overlay2', 'vfs']) {
    try {
      return await startWith(driver);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

async function startWith(storageDriver: string): Promise<Daemon> {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-docker-'));
  const cgroup = folder.slice(folder.lastIndexOf('/') + 1);
  const made = STRAY_FOLDERS.filter((path) => !existsSync(path));
  for (const bridge of Object.values(BRIDGES)) await command('ip', ['link', 'delete', bridge]).catch(() => 'there is none');
  // In a process group of its own: Ctrl-C is for the test.
  const remover = spawn('sh', ['-c', REMOVE, 'sh', folder, cgroup, Object.values(BRIDGES).join(' '), ...made], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const removed = once(remover, 'exit');
  const dockerd = findBinary('dockerd', 'docker.io');
  const flags = {
    'data-root': join(folder, 'data'),
    'exec-root': join(folder, 'exec'),
    pidfile: join(folder, 'dockerd.pid'),
    host: `unix://${folder}/docker.sock`,
    'storage-driver': storageDriver,
    'exec-opt': 'native.cgroupdriver=cgroupfs',
    'cgroup-parent': `/${cgroup}`,
    group: 'root',
    bridge: 'none',
    iptables: 'false',
    'ip-forward': 'false',
  };
  const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private'];
  const inside = ['sh', '-c', IN_NAMESPACES, 'sh', folder, dockerd, ...Object.entries(flags).map(([key, v]) => `--${key}=${v}`)];
  const child = new Child({ command: 'unshare', args: [...namespaces, ...inside] });

  // The client of the same package: a newer one may not speak to this daemon.
  const program = findBinary('docker', 'docker.io', `/usr/bin:${process.env['PATH'] ?? ''}`);
  const path = `${dirname(program)}:${process.env['PATH'] ?? ''}`;
  const clientEnv = { PATH: path, HOME: folder, DOCKER_HOST: flags.host, DOCKER_BUILDKIT: '0', COMPOSE_DOCKER_CLI_BUILD: '0' };
  const docker: Daemon['docker'] = (args, options) => command(program, args, { env: clientEnv, ...options });
  const daemon: Daemon = {
    folder,
    clientEnv,
    storageDriver,
    docker,
    remove: async () => {
      await child.kill();
      remover.stdin.end();
      await removed;
      return remains(folder, cgroup);
    },
  };
  try {
    await eventually(
      async () => {
        if (child.exit !== undefined) return 'ended';
        return (await docker(['version', '--format', '{{.Server.Version}}'])) !== '';
      },
      { timeoutMs: 60_000, intervalMs: 300, what: 'the Docker daemon answers' },
    );
    if (child.exit !== undefined) throw new Error(`dockerd ended (${storageDriver}):\n${child.tail()}`);
    return daemon;
  } catch (error) {
    await daemon.remove();
    throw error;
  }
}

/** Paths of a cgroup: one in each hierarchy of version 1, or the one of version 2. */
function cgroupPaths(name: string): string[] {
  if (!existsSync(CGROUPS)) return [];
  const hierarchies = readdirSync(CGROUPS, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [CGROUPS, ...hierarchies.map((entry) => join(CGROUPS, entry.name))]
    .map((hierarchy) => join(hierarchy, name))
    .filter((path) => existsSync(path));
}

/** Mounts, files, cgroups, interfaces and processes that still speak of it. */
function remains(folder: string, cgroup: string): string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(folder));
  const processes = readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder);
    } catch {
      return false;
    }
  });
  return [
    ...mounts.map((line) => `mount ${line}`),
    ...processes.map((pid) => `process ${pid}`),
    ...[folder, ...Object.values(BRIDGES).map((bridge) => `/sys/class/net/${bridge}`), ...cgroupPaths(cgroup)].filter((path) =>
      existsSync(path),
    ),
  ];
}
