import { storageName } from '@causeway/kv';
import { abortable } from '@causeway/lifecycle';
import { ExpertView, type ShardRecord } from '@causeway/experts/placing';
import {
  connectRedis,
  readWorkerProfiles,
  RegistryView,
  type WorkerLink,
  type WorkerProfile,
  type WorkerRecord,
} from '@causeway/registry';
import { formatBytes } from '@causeway/topology';
import { isAlive } from '../cluster/process-identity.ts';
import { probeNats, probeReadyz, probeRedis } from '../cluster/probes.ts';
import { readRunState, type RunState, type ServiceState } from '../cluster/run-state.ts';
import type { RunPaths } from '../paths.ts';
import { profileSummary } from '../profile/report.ts';
import type { Output } from '../terminal/output.ts';
import { table } from '../terminal/table.ts';
import { modelNames } from '../terminal/up-text.ts';

const PROBE_MS = 2_000;

/** `status --json`; fields are added, never renamed. */
export interface StatusReport {
  running: boolean;
  phase?: RunState['phase'] | 'crashed';
  startedAt?: string;
  supervisorPid?: number;
  /** The first of `models`. */
  model?: RunState['models'][number];
  models?: ModelReport[];
  http?: string;
  grpc?: string;
  nats?: string;
  redis?: string;
  services: ServiceReport[];
  /** Workers as registered in Redis. */
  workers: WorkerReport[];
  /** Expert shards as registered in Redis. */
  shards: ShardReport[];
  /** Why the registry could not be read. */
  registryError?: string;
}

interface ModelReport {
  name: string;
  path: string;
  /** Workers as registered. */
  prefill: number;
  decode: number;
  /** It has a decode worker, and a prefill worker if the topology has one for it. */
  ready: boolean;
}

interface ServiceReport {
  name: string;
  kind: ServiceState['kind'];
  pid: number | undefined;
  ready: boolean;
  /** Empty when it is ready. */
  reasons: readonly string[];
  restarts: number;
  ports: Readonly<Record<string, number>>;
  log: string;
}

interface WorkerReport {
  id: string;
  role: WorkerRecord['role'];
  chip: string;
  emulated: boolean;
  model: string;
  address: string;
  draining: boolean;
  running: number;
  waiting: number;
  queuedPromptTokens: number;
  freePages: number;
  totalPages: number;
  blockTokens: number;
  contextLength: number;
  /** How pages hold KV: element type, layout, tokens of a block. */
  storage: string;
  /** Ways over which it sends KV, as it measured them, the last used first. */
  links: readonly WorkerLink[];
  /** What `causeway profile` measured it to do, if it was. `current`: this very process. */
  profile?: { current: boolean; profile: WorkerProfile };
  /** Attention runs on what pages hold as it is, or on f32 numbers rounded to it. */
  attention: 'executed' | 'rounded';
}

type ShardReport = Pick<
  ShardRecord,
  'id' | 'model' | 'address' | 'draining' | 'held' | 'capacity' | 'usedBytes' | 'budgetBytes' | 'queued' | 'pairs'
> & {
  /** Epoch of the placement in force; 0: none. */
  epoch: number;
};

/** Shows what runs. Exit code 0 when every process is ready, 1 when something is not, 3 when no cluster is up. */
export async function status(options: { json: boolean }, deps: { paths: RunPaths; out: Output }): Promise<number> {
  const report = await collect(deps.paths);
  if (options.json) deps.out.line(JSON.stringify(report, undefined, 2));
  else show(report, deps.out);
  if (!report.running) return 3;
  return report.phase === 'ready' && report.services.every((service) => service.ready) ? 0 : 1;
}

async function collect(paths: RunPaths): Promise<StatusReport> {
  const state = readRunState(paths);
  if (state === undefined) return { running: false, services: [], workers: [], shards: [] };
  const alive = isAlive(state.supervisor);
  const [services, registry] = await Promise.all([
    Promise.all(state.services.map(probe)),
    alive
      ? readRegistry(
          state.redisUrl,
          state.namespace,
          state.models.map(({ name }) => name),
        )
      : { workers: [], shards: [] },
  ]);
  return {
    running: alive,
    phase: alive ? state.phase : 'crashed',
    startedAt: state.startedAt,
    supervisorPid: state.supervisor.pid,
    ...(state.models[0] === undefined ? {} : { model: state.models[0] }),
    models: state.models.map((model) => modelReport(model, state.services, registry.workers)),
    http: state.httpUrl,
    grpc: state.grpcAddress,
    nats: state.natsUrl,
    redis: state.redisUrl,
    services,
    ...registry,
  };
}

function modelReport(
  { name, path }: RunState['models'][number],
  services: RunState['services'],
  workers: readonly WorkerReport[],
): ModelReport {
  const count = (role: WorkerReport['role']): number =>
    workers.filter((worker) => worker.model === name && worker.role === role && !worker.draining).length;
  const [prefill, decode] = [count('prefill'), count('decode')];
  const wantsPrefill = services.some(({ kind, model }) => kind === 'prefill' && model === name);
  return { name, path, prefill, decode, ready: decode > 0 && (prefill > 0 || !wantsPrefill) };
}

async function probe(service: ServiceState): Promise<ServiceReport> {
  const { name, kind, restarts, ports, log } = service;
  const pid = service.process !== undefined && isAlive(service.process) ? service.process.pid : undefined;
  let reasons: readonly string[] = ['it is not running'];
  if (pid !== undefined) {
    const signal = AbortSignal.timeout(PROBE_MS);
    try {
      // A suspended process accepts connections and says nothing.
      reasons = await abortable(answers(service, signal), signal);
    } catch (error) {
      reasons = [
        signal.aborted
          ? `it does not answer within ${PROBE_MS / 1000} s`
          : error instanceof Error
            ? error.message
            : String(error),
      ];
    }
  }
  return { name, kind, pid, ready: reasons.length === 0, reasons, restarts, ports, log };
}

async function answers(service: ServiceState, signal: AbortSignal): Promise<readonly string[]> {
  if (service.kind === 'nats') return probeNats(service.ports['client'] ?? 0, signal);
  if (service.kind === 'redis') return probeRedis(service.ports['client'] ?? 0, signal);
  return probeReadyz(service.observability ?? '', signal);
}

type RegistryReport = Pick<StatusReport, 'workers' | 'shards' | 'registryError'>;

async function readRegistry(url: string, namespace: string | undefined, models: readonly string[]): Promise<RegistryReport> {
  try {
    await using redis = await connectRedis({ url, namespace, deadlineMs: PROBE_MS });
    await using view = new RegistryView({ redis });
    await using stack = new AsyncDisposableStack();
    const experts = models.map((model) => stack.use(new ExpertView({ redis, model })));
    await abortable(Promise.all([view, ...experts].map(({ loaded }) => loaded)), AbortSignal.timeout(PROBE_MS));
    const { workers } = view.snapshot;
    const profiles = await readWorkerProfiles(
      redis,
      workers.map(({ id }) => id),
    );
    return {
      workers: workers.map((worker) => workerReport(worker, profiles.get(worker.id))),
      shards: experts.flatMap(({ snapshot }) =>
        [...snapshot.shards.values()].map((shard) => shardReport(shard, snapshot.placement?.epoch)),
      ),
    };
  } catch (error) {
    return {
      workers: [],
      shards: [],
      registryError: `the registry cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
}

function shardReport(shard: ShardRecord, epoch = 0): ShardReport {
  const { id, model, address, draining, held, capacity, usedBytes, budgetBytes, queued, pairs } = shard;
  return { epoch, id, model, address, draining, held, capacity, usedBytes, budgetBytes, queued, pairs };
}

function workerReport(worker: WorkerRecord, profile: WorkerProfile | undefined): WorkerReport {
  const { id, role, chip, emulated, model, address, draining, contextLength } = worker;
  const { running, waiting, queuedPromptTokens, freePages } = worker.load;
  const { totalPages, blockTokens } = worker.capacity;
  const { storage } = worker.descriptor;
  return {
    links: worker.links ?? [],
    ...(profile === undefined ? {} : { profile: { current: profile.incarnation === worker.incarnation, profile } }),
    id,
    role,
    chip,
    emulated,
    model,
    address,
    draining,
    running,
    waiting,
    queuedPromptTokens,
    freePages,
    totalPages,
    blockTokens,
    contextLength,
    storage: storageName(storage),
    // Attention reads f32: pages of any other type are decoded, and new numbers rounded to theirs.
    attention: storage.dtype === 'f32' ? 'executed' : 'rounded',
  };
}

function show(report: StatusReport, out: Output): void {
  if (report.phase === undefined) {
    out.line('no cluster of this checkout is up; ./causeway up starts one');
    return;
  }
  if (report.phase === 'crashed') {
    out.line(`the last \`up\` (pid ${report.supervisorPid}) ended abruptly; ./causeway down (or up) cleans up after it`);
  } else {
    out.line(
      `${out.bold(report.phase)} since ${report.startedAt}, pid ${report.supervisorPid}, ${modelNames(report.models ?? [])}`,
    );
    out.line(`HTTP ${report.http}/v1 · gRPC ${report.grpc} · ${report.nats} · ${report.redis}`);
  }
  out.line();
  const services = report.services.map((service) => [
    service.name,
    service.pid === undefined ? '-' : String(service.pid),
    service.ready ? 'ready' : out.red('not ready'),
    String(service.restarts),
    Object.entries(service.ports)
      .map(([what, port]) => `${what} ${port}`)
      .join(', '),
    service.reasons.join('; '),
  ]);
  for (const line of table(['PROCESS', 'PID', 'STATE', 'RESTARTS', 'PORTS', ''], services)) out.line(line);
  if (report.phase === 'crashed') return;
  const models = report.models ?? [];
  if (models.length > 1) {
    const rows = models.map(({ name, prefill, decode, ready }) => [
      name,
      String(prefill),
      String(decode),
      ready ? 'ready' : out.red('not ready'),
    ]);
    out.line();
    for (const line of table(['MODEL', 'PREFILL', 'DECODE', 'STATE'], rows)) out.line(line);
  }
  out.line();
  if (report.registryError !== undefined) out.line(out.red(report.registryError));
  else if (report.workers.length === 0) out.line('no worker is registered in Redis');
  const workers = report.workers.map((worker) => [
    worker.id,
    worker.role,
    worker.chip + (worker.emulated ? ' (emulated)' : ''),
    `${worker.storage} (${worker.attention})`,
    worker.model,
    `${worker.running} running, ${worker.waiting} waiting`,
    `${worker.totalPages - worker.freePages} of ${worker.totalPages} used (${worker.blockTokens} tokens each)`,
    worker.address,
    worker.draining ? 'draining' : '',
  ]);
  if (workers.length > 0)
    for (const line of table(['WORKER', 'ROLE', 'CHIP', 'KV', 'MODEL', 'LOAD', 'PAGES', 'ADDRESS', ''], workers)) out.line(line);
  showLinks(report, out);
  showProfiles(report, out);
  showShards(report, out);
}

function showLinks({ workers }: StatusReport, out: Output): void {
  const rows = workers.flatMap(({ id, links }) =>
    links.map(({ to, bytesPerSecond, wire, codec, reason }) => [
      id,
      to,
      bytesPerSecond === undefined ? '-' : `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`,
      wire,
      codec,
      reason,
    ]),
  );
  if (rows.length === 0) return;
  out.line();
  for (const line of table(['KV FROM', 'TO', 'BANDWIDTH', 'AS', 'CODEC', ''], rows)) out.line(line);
}

function showProfiles({ workers }: StatusReport, out: Output): void {
  const rows = workers.flatMap(({ id, profile }) =>
    profile === undefined
      ? []
      : [
          [
            id,
            profileSummary(profile.profile),
            new Date(profile.profile.measuredAt).toISOString(),
            profile.current ? '' : 'before it was last started',
          ],
        ],
  );
  if (rows.length === 0) return;
  out.line();
  for (const line of table(['PROFILE OF', '', 'MEASURED', ''], rows)) out.line(line);
}

function showShards(report: StatusReport, out: Output): void {
  if (report.shards.length === 0) return;
  out.line();
  const shards = report.shards.map((shard) => [
    shard.id,
    shard.model,
    shard.epoch === 0 ? 'not placed yet' : `placement ${shard.epoch}`,
    `${shard.held} of ${shard.capacity}`,
    `${formatBytes(shard.usedBytes)} of ${formatBytes(shard.budgetBytes)}`,
    `${shard.queued} waiting, ${shard.pairs} calls answered`,
    shard.address,
    shard.draining ? 'draining' : '',
  ]);
  for (const line of table(['SHARD', 'MODEL', '', 'EXPERTS', 'MEMORY', 'LOAD', 'ADDRESS', ''], shards)) out.line(line);
}
