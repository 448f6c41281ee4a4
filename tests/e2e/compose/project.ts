/** The repository's docker-compose.yml without Grafana, driven by docker-compose over the test's own daemon. */
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { eventually, findBinary, freePort } from '@causeway/testkit';
import type { BaseImages } from './base-images.ts';
import { command } from './command.ts';
import { BRIDGES, type Daemon } from './daemon.ts';

const PROJECT = 'causeway-test';
const ROOT = resolve(import.meta.dirname, '../../..');

export const WORKERS = ['prefill-0', 'prefill-1', 'decode-0', 'decode-1'] as const;
export const SHARDS = ['expert-0', 'expert-1'] as const;
export const PROCESSES = ['router', ...WORKERS, ...SHARDS] as const;
/** Grafana's server comes only as an image of a registry. */
const SERVICES = ['nats', 'redis', ...PROCESSES, 'prometheus'];

export interface ContainerState {
  id: string;
  status: string;
  /** Undefined without a health check. */
  health: string | undefined;
  exitCode: number;
  restarts: number;
  startedAt: string;
}

export interface Project {
  /** Name of the image built from deploy/docker/Dockerfile. */
  readonly image: string;
  /** Ports of 127.0.0.1. */
  readonly ports: { http: number; grpc: number; prometheus: number };
  compose(args: readonly string[], timeoutMs?: number, env?: Readonly<Record<string, string>>): Promise<string>;
  /** Builds the image, starts everything, and waits until every process is healthy. */
  up(): Promise<void>;
  state(service: string): Promise<ContainerState>;
  healthy(service: string): Promise<ContainerState>;
  /** Kills a service's process from inside its container; the container then ends as after any crash. */
  crash(service: string): Promise<void>;
}

export async function createProject(daemon: Daemon, images: BaseImages): Promise<Project> {
  const ports = { http: await freePort(), grpc: await freePort(), prometheus: await freePort() };
  const image = 'causeway-under-test';
  const override = join(daemon.folder, 'override.json');
  writeFileSync(override, JSON.stringify(overrides()));
  const env = {
    ...daemon.clientEnv,
    ...images,
    CAUSEWAY_IMAGE: image,
    CAUSEWAY_NATS_PASSWORD: 'pnats0123456789',
    CAUSEWAY_REDIS_PASSWORD: 'predis0123456789',
    CAUSEWAY_GRAFANA_PASSWORD: 'pgrafana0123456789',
    CAUSEWAY_HTTP_PORT: String(ports.http),
    CAUSEWAY_GRPC_PORT: String(ports.grpc),
    CAUSEWAY_PROMETHEUS_PORT: String(ports.prometheus),
  };
  const files = ['--file', join(ROOT, 'docker-compose.yml'), '--file', override];
  const fixed = ['--project-name', PROJECT, '--project-directory', ROOT, ...files];
  const program = findBinary('docker-compose', 'docker-compose');
  const compose: Project['compose'] = (args, timeoutMs = 120_000, more = {}) =>
    command(program, [...fixed, ...args], { env: { ...env, ...more }, cwd: ROOT, timeoutMs });

  const state = async (service: string): Promise<ContainerState> => {
    // By Compose's own labels: asking docker-compose starts a Python each time.
    const labels = [`project=${PROJECT}`, `service=${service}`].flatMap((label) => [
      '--filter',
      `label=com.docker.compose.${label}`,
    ]);
    const id = await daemon.docker(['ps', '--all', '--quiet', '--no-trunc', ...labels]);
    const inspected = JSON.parse(await daemon.docker(['inspect', id])) as [
      {
        RestartCount: number;
        State: { Status: string; ExitCode: number; StartedAt: string; Health?: { Status: string; Log: { Output: string }[] } };
      },
    ];
    const { State, RestartCount } = inspected[0];
    return {
      id,
      status: State.Status,
      health: State.Health?.Status,
      exitCode: State.ExitCode,
      restarts: RestartCount,
      startedAt: State.StartedAt,
    };
  };
  const healthy = async (service: string): Promise<ContainerState> => {
    try {
      const found = async (): Promise<ContainerState | undefined> => {
        const now = await state(service);
        return now.health === 'healthy' ? now : undefined;
      };
      return await eventually(found, { timeoutMs: 120_000, intervalMs: 1000, what: `${service} healthy` });
    } catch (error) {
      throw new Error(`${String(error)}\n${await compose(['logs', '--no-color', '--tail', '30', service])}`, { cause: error });
    }
  };
  return {
    image,
    ports,
    compose,
    state,
    healthy,
    up: async () => {
      // All services name one image, each with the way to build it: once is enough.
      await compose(['build', 'router'], 900_000);
      await compose(['up', '--detach', ...SERVICES], 300_000);
      for (const service of PROCESSES) await healthy(service);
    },
    crash: async (service) => {
      const { id } = await state(service);
      const children =
        'process.kill(Number(require("fs").readFileSync("/proc/1/task/1/children", "utf8").split(" ")[0]), "SIGKILL")';
      await daemon.docker(['exec', id, 'node', '-e', children]).catch(() => 'the container may end before this process does');
    },
  };
}

/** What this machine needs and the file doesn't say: the build reaches package registries as the machine does. */
function overrides(): object {
  const proxies = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]);
  const args = Object.fromEntries(proxies.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
  return {
    version: '3.8',
    services: Object.fromEntries(PROCESSES.map((name) => [name, { build: { network: 'host', args } }])),
    networks: Object.fromEntries(
      Object.entries(BRIDGES).map(([name, bridge]) => [name, { driver_opts: { 'com.docker.network.bridge.name': bridge } }]),
    ),
  };
}
