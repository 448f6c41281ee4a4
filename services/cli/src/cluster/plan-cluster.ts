import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { hostPort } from '@causeway/config';
import { fail } from '@causeway/errors';
import { findBinary } from '@causeway/testkit';
import { type ModelTable, type ProcessSpec, renderNatsConfig, renderProcesses, type Topology } from '@causeway/topology';
import { logFile, REPOSITORY, type RunPaths } from '../paths.ts';
import { describeHolder } from './port-holder.ts';
import { PortReservations } from './port-reservations.ts';
import { probeNats, probeReadyz, probeRedis } from './probes.ts';
import type { ServicePlan } from './service-plan.ts';

const LOCAL = '127.0.0.1';
const DEFAULT_HTTP = 8000;
const DEFAULT_GRPC = 50_051;
/** Beyond a service's own drain: closing connections and unwinding. */
const UNWIND_MS = 8_000;

export interface PlanOptions {
  topology: Topology;
  models: ModelTable;
  paths: RunPaths;
  /** Given by the user: taken is an error. Otherwise the default, or the next free one. */
  httpPort: number | undefined;
  grpcPort: number | undefined;
  /** Address that the router's HTTP and gRPC listen on. */
  host: string;
  /** Environment to start the processes with; the topology's values win. */
  env: Readonly<Record<string, string | undefined>>;
}

export interface ClusterPlan {
  services: ServicePlan[];
  httpUrl: string;
  grpcAddress: string;
  natsUrl: string;
  redisUrl: string;
  namespace: string | undefined;
  /** Things the user should know, such as a port that was not free. */
  notes: string[];
  /** The ports of all processes, which nobody else's plan has; for as long as they run. */
  reserved: AsyncDisposable;
}

/** Chooses ports and makes every process's command. ServiceError when a port that the user named is taken or a program is missing. */
export async function planCluster(options: PlanOptions): Promise<ClusterPlan> {
  const { topology, paths, host } = options;
  checkCores(topology);
  const notes: string[] = [];
  await using stack = new AsyncDisposableStack();
  const reservations = stack.use(new PortReservations());
  const take = async (at: string, from: number): Promise<number> =>
    (await reservations.next(at, from)) ?? fail('resource_exhausted', 'dependency_unavailable', `no free port from ${from} on`);
  const choose = async (what: string, flag: string, wanted: number | undefined, standard: number): Promise<number> => {
    if (await reservations.reserve(host, wanted ?? standard)) return wanted ?? standard;
    const holder = describeHolder(wanted ?? standard);
    if (wanted !== undefined) {
      return fail('already_exists', 'bad_config', `port ${wanted} (${flag}) is taken by ${holder}; name another or stop it`);
    }
    const port = await take(host, standard + 1);
    notes.push(`port ${standard} is taken by ${holder}; ${what} is on ${port} instead`);
    return port;
  };
  const http = await choose('HTTP', '--http-port', options.httpPort, DEFAULT_HTTP);
  const grpc = await choose('gRPC', '--grpc-port', options.grpcPort, DEFAULT_GRPC);
  const nats = { port: await take(LOCAL, 4222), monitoring: await take(LOCAL, 8222) };
  const redis = await take(LOCAL, 6379);
  const natsUrl = `nats://${LOCAL}:${nats.port}`;
  const redisUrl = `redis://${LOCAL}:${redis}`;

  const base = inherited(options.env);
  const path = options.env['PATH'];
  mkdirSync(paths.folder, { recursive: true });
  const passwords = new Map<string, string>();
  const natsPassword = (worker: string): string => {
    const password = passwords.get(worker) ?? randomBytes(16).toString('base64url');
    passwords.set(worker, password);
    return password;
  };
  const specs = renderProcesses(topology, {
    models: options.models,
    machineCores: availableParallelism(),
    machineBytes: machineMemory(),
    natsUrl,
    natsMonitoringUrl: `http://${LOCAL}:${nats.monitoring}`,
    natsPassword,
    redisUrl,
    host: LOCAL,
    advertiseHost: () => LOCAL,
    // 0: settled per process below.
    ports: (_name, _role, index) => ({ rpc: 0, observability: 0, http: index === 0 ? http : 0, grpc: index === 0 ? grpc : 0 }),
  });
  const natsConfig = renderNatsConfig(topology, specs, {
    listen: `${LOCAL}:${nats.port}`,
    http: `${LOCAL}:${nats.monitoring}`,
    password: (worker) => JSON.stringify(natsPassword(worker)),
  });
  const services: ServicePlan[] = [
    natsPlan(paths, findBinary('nats-server', 'nats-server', path), nats, natsConfig, base),
    redisPlan(paths, findBinary('redis-server', 'redis-server', path), redis, base),
  ];
  for (const spec of specs) services.push(await servicePlan(spec, options, base, take));
  return {
    services,
    httpUrl: `http://${hostPort(shownHost(host), http)}`,
    grpcAddress: hostPort(shownHost(host), grpc),
    natsUrl,
    redisUrl,
    namespace: topology.namespace,
    notes,
    reserved: stack.move(),
  };
}

/** Bytes of memory that all processes together may take. */
function machineMemory(): number {
  // 0 or more than there is: no limit is set (cgroups).
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** taskset would refuse cores that are not there, once per process and in its own words. */
function checkCores(topology: Topology): void {
  const machine = cpus().length;
  for (const pool of topology.pools) {
    if (pool.role === 'router' || pool.cores === undefined) continue;
    const absent = pool.cores.filter((core) => core >= machine);
    if (absent.length === 0) continue;
    fail(
      'invalid_argument',
      'bad_config',
      `pool ${pool.name} wants cores ${absent.join(', ')}; this machine has 0 to ${machine - 1}`,
    );
  }
}

/** A wildcard is an address to listen on, not one to call. */
function shownHost(host: string): string {
  return host === '0.0.0.0' ? LOCAL : host === '::' ? '::1' : host;
}

/** The user's environment; `CAUSEWAY_*` stays, for settings that a topology does not name (failpoints, say). */
function inherited(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
}

function natsPlan(
  paths: RunPaths,
  command: string,
  ports: { port: number; monitoring: number },
  content: string,
  env: Record<string, string>,
): ServicePlan {
  const config = join(paths.folder, 'nats.conf');
  // It holds passwords; a file that is there already keeps its mode.
  rmSync(config, { force: true });
  writeFileSync(config, content, { mode: 0o600 });
  return {
    name: 'nats',
    kind: 'nats',
    command,
    args: ['-c', config],
    env,
    log: logFile(paths, 'nats'),
    ports: { client: ports.port, monitoring: ports.monitoring },
    graceMs: UNWIND_MS,
    probe: (signal) => probeNats(ports.port, signal),
  };
}

function redisPlan(paths: RunPaths, command: string, port: number, env: Record<string, string>): ServicePlan {
  const settings = { port, bind: LOCAL, dir: paths.folder, save: '', appendonly: 'no', daemonize: 'no' };
  return {
    name: 'redis',
    kind: 'redis',
    command,
    args: Object.entries(settings).flatMap(([key, value]) => [`--${key}`, String(value)]),
    env,
    log: logFile(paths, 'redis'),
    ports: { client: port },
    graceMs: UNWIND_MS,
    probe: (signal) => probeRedis(port, signal),
  };
}

/** Ports that a process's environment names; workers take any free RPC port and announce it in Redis. */
async function servicePlan(
  spec: ProcessSpec,
  options: PlanOptions,
  base: Record<string, string>,
  take: (host: string, from: number) => Promise<number>,
): Promise<ServicePlan> {
  const host = spec.role === 'router' ? options.host : LOCAL;
  const observability = await take(host, 9100);
  const env: Record<string, string> = {
    ...base,
    ...spec.env,
    CAUSEWAY_HOST: host,
    CAUSEWAY_OBSERVABILITY_PORT: String(observability),
  };
  const ports: Record<string, number> = { observability };
  if (spec.role === 'router') {
    // Further routers of a pool take the next free ports.
    ports['http'] = Number(spec.env['CAUSEWAY_HTTP_PORT']) || (await take(host, DEFAULT_HTTP));
    ports['grpc'] = Number(spec.env['CAUSEWAY_GRPC_PORT']) || (await take(host, DEFAULT_GRPC));
    env['CAUSEWAY_HTTP_PORT'] = String(ports['http']);
    env['CAUSEWAY_GRPC_PORT'] = String(ports['grpc']);
  }
  const program = [process.execPath, join(REPOSITORY, spec.entry)];
  const address = hostPort(shownHost(host), observability);
  const command = spec.cores === undefined ? program : ['taskset', '-c', spec.cores.join(','), ...program];
  return {
    name: spec.name,
    kind: spec.role,
    ...(spec.model === undefined ? {} : { model: spec.model }),
    command: command[0] ?? process.execPath,
    args: command.slice(1),
    env,
    log: logFile(options.paths, spec.name),
    ports,
    observability: address,
    graceMs: options.topology.drain + UNWIND_MS,
    probe: (signal) => probeReadyz(address, signal),
  };
}
