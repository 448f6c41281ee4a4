import { shardMemory, workerKvBudget } from './memory-share.ts';
import { modelOf, modelsOf, type ModelTable, type ServedModel, servedModel } from './models.ts';
import { natsUser } from './nats-config.ts';
import type { ExpertPool, Pool, Role, RouterPool, Topology, WorkerPool } from './schema.ts';
import { workerCores, workerThreads } from './threads.ts';

/** One process of the cluster: what to run and with which environment. Values not given by the topology are left to the service. */
export interface ProcessSpec {
  /** `prefill`, or `prefill-0` when its pool has several; unique in the cluster. Also the worker id. */
  name: string;
  role: Role;
  pool: string;
  /** What a worker serves, by the name that clients use. */
  model?: string;
  /** Path of the program, relative to the repository. */
  entry: string;
  env: Readonly<Record<string, string>>;
  /** Cores the process is bound to. */
  cores?: readonly number[];
}

/** Where the cluster runs: what differs between processes on this machine and containers. */
export interface Placement {
  /** Every model of the topology. */
  models: ModelTable;
  /** Cores of the machine; undefined: not known. */
  machineCores?: number | undefined;
  /** Memory of the machine; undefined: not known. */
  machineBytes?: number | undefined;
  natsUrl: string;
  /** A worker's password at NATS, where its name is its user name. */
  natsPassword: (worker: string) => string;
  /** HTTP of its monitoring port. */
  natsMonitoringUrl: string;
  redisUrl: string;
  /** Address that servers bind. */
  host: string;
  /** Address under which others reach the process with this name. */
  advertiseHost: (name: string) => string;
  /** Ports of a process; 0 is any free port. `index` counts the routers. */
  ports: (name: string, role: Role, index: number) => { rpc: number; observability: number; http: number; grpc: number };
}

/** Order in which processes start; they are stopped in the same order (clients of a process before it). */
export const ROLE_ORDER: readonly Role[] = ['router', 'prefill', 'decode', 'expert'];

/** Every process that a topology asks for, routers first. A topology without a router pool gets one router. */
export function renderProcesses(topology: Topology, placement: Placement): ProcessSpec[] {
  const pools: Pool[] = [...topology.pools];
  if (!pools.some((pool) => pool.role === 'router')) pools.push({ role: 'router', name: 'router', count: 1 });
  let routers = 0;
  return ROLE_ORDER.flatMap((role) => pools.filter((pool) => pool.role === role)).flatMap((pool) =>
    Array.from({ length: pool.count }, (_, index): ProcessSpec => {
      const name = pool.count === 1 ? pool.name : `${pool.name}-${index}`;
      const ports = placement.ports(name, pool.role, pool.role === 'router' ? routers++ : 0);
      const env = {
        ...sharedEnv(topology, placement, ports.observability),
        ...roleEnv(topology, pool, name, ports, placement),
      };
      const cores = pool.role === 'router' ? undefined : workerCores(pool, index);
      return {
        name,
        role: pool.role,
        pool: pool.name,
        ...(pool.role === 'router' ? {} : { model: servedModel(placement.models, modelOf(topology, pool)).name }),
        entry: `services/${pool.role}/src/main.ts`,
        env,
        ...(cores === undefined ? {} : { cores }),
      };
    }),
  );
}

function roleEnv(
  topology: Topology,
  pool: Pool,
  name: string,
  ports: ReturnType<Placement['ports']>,
  placement: Placement,
): Record<string, string> {
  if (pool.role === 'router') {
    return { ...routerModels(topology, placement.models), ...routerEnv(pool, ports) };
  }
  const model = modelOf(topology, pool);
  const compute = {
    ...modelEnv(servedModel(placement.models, model)),
    CAUSEWAY_ADVERTISE_HOST: placement.advertiseHost(name),
    ...computeEnv(pool, name, ports.rpc, workerThreads(topology, pool, placement.machineCores)),
  };
  const experts = topology.pools.filter((other) => other.role === 'expert' && modelOf(topology, other) === model);
  if (pool.role === 'expert')
    return { ...compute, ...expertEnv(pool, experts, shardMemory(topology, pool, placement.machineBytes)) };
  return {
    CAUSEWAY_NATS_URL: placement.natsUrl,
    CAUSEWAY_NATS_MONITORING_URL: placement.natsMonitoringUrl,
    CAUSEWAY_NATS_USER: natsUser(topology.namespace, name),
    CAUSEWAY_NATS_PASSWORD: placement.natsPassword(name),
    ...compute,
    ...workerEnv(pool, workerKvBudget(topology, pool, placement.machineBytes)),
    ...remoteExpertsEnv(experts[0]),
  };
}

/** Threads of libuv's pool in a worker: runs of ONNX Runtime wait there beside file reads; Node's 4 would let long runs hold those up. */
const UV_THREADPOOL_SIZE = '8';

function sharedEnv(topology: Topology, placement: Placement, observability: number): Record<string, string> {
  return {
    CAUSEWAY_REDIS_URL: placement.redisUrl,
    CAUSEWAY_LOG_LEVEL: topology.logLevel,
    CAUSEWAY_HOST: placement.host,
    CAUSEWAY_OBSERVABILITY_PORT: String(observability),
    CAUSEWAY_DRAIN_MS: String(topology.drain),
    ...given({
      CAUSEWAY_NAMESPACE: topology.namespace,
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: topology.traces?.endpoint,
      CAUSEWAY_TRACE_RATIO: topology.traces?.ratio,
    }),
  };
}

function modelEnv({ name, path }: ServedModel): Record<string, string> {
  return { CAUSEWAY_MODEL_PATH: path, CAUSEWAY_MODEL_NAME: name };
}

/** A router has the tokenizer of every model. */
function routerModels(topology: Topology, models: ModelTable): Record<string, string> {
  const served = modelsOf(topology).map((word) => servedModel(models, word));
  const byName = new Map(served.map(({ name, path }) => [name, path]));
  const [only] = served;
  if (byName.size === 1 && only !== undefined) return modelEnv(only);
  return { CAUSEWAY_MODEL_PATHS: JSON.stringify(Object.fromEntries(byName)) };
}

function routerEnv(pool: RouterPool, ports: { http: number; grpc: number }): Record<string, string> {
  return {
    CAUSEWAY_HTTP_PORT: String(ports.http),
    CAUSEWAY_GRPC_PORT: String(ports.grpc),
    ...given({
      CAUSEWAY_PLACEMENT: pool.placement,
      CAUSEWAY_LOCAL_PREFILL_TOKENS: pool.localPrefillTokens,
      CAUSEWAY_MAX_QUEUE: pool.maxQueue,
      CAUSEWAY_MAX_BODY_BYTES: pool.maxBody,
      CAUSEWAY_RECOVERY: pool.recovery,
      CAUSEWAY_DEFAULT_MAX_TOKENS: pool.defaultMaxTokens,
      CAUSEWAY_CHAT_TEMPLATE: pool.chatTemplate,
      CAUSEWAY_TOOL_PARSER: pool.toolParser,
      CAUSEWAY_REASONING_PARSER: pool.reasoningParser,
    }),
  };
}

function computeEnv(pool: WorkerPool | ExpertPool, name: string, rpcPort: number, threads: number): Record<string, string> {
  return {
    UV_THREADPOOL_SIZE,
    CAUSEWAY_WORKER_ID: name,
    CAUSEWAY_RPC_PORT: String(rpcPort),
    CAUSEWAY_THREADS: String(threads),
    ...given({ CAUSEWAY_PRECISION: pool.precision, CAUSEWAY_LEASE_MS: pool.lease }),
  };
}

function expertEnv(pool: ExpertPool, all: readonly Pool[], memory: number | undefined): Record<string, string> {
  return given({
    CAUSEWAY_EXPERT_SHARDS: all.reduce((sum, { count }) => sum + count, 0),
    CAUSEWAY_EXPERT_MEMORY_BYTES: memory,
    CAUSEWAY_EXPERT_COPIES: pool.copies,
    CAUSEWAY_EXPERT_HOT_COPIES: pool.hotCopies,
  });
}

/** What workers are told of the experts' pool, if there is one. */
function remoteExpertsEnv(pool: Pool | undefined): Record<string, string> {
  if (pool?.role !== 'expert') return {};
  return given({
    CAUSEWAY_EXPERTS: 'remote',
    CAUSEWAY_EXPERT_MODE: pool.mode,
    CAUSEWAY_EXPERT_ROWS: pool.rows,
    CAUSEWAY_EXPERT_WAIT_MS: pool.wait,
  });
}

function workerEnv(pool: WorkerPool, kvBudget: number | undefined): Record<string, string> {
  return {
    CAUSEWAY_CHIP: pool.chip,
    ...given({
      CAUSEWAY_KV_BUDGET_BYTES: kvBudget,
      CAUSEWAY_CHIP_EMULATED: onOff(pool.emulated),
      CAUSEWAY_KV_DTYPE: pool.kvDtype,
      CAUSEWAY_KV_LAYOUT: pool.kvLayout,
      CAUSEWAY_KV_INSPECT: onOff(pool.kvInspect),
      CAUSEWAY_KV_LOSSY: onOff(pool.kvLossy),
      CAUSEWAY_KV_WIRE: pool.kvWire,
      CAUSEWAY_BLOCK_TOKENS: pool.blockTokens,
      CAUSEWAY_KV_CODEC: pool.codec,
      CAUSEWAY_MAX_CONTEXT: pool.maxContext,
      CAUSEWAY_MAX_SEQUENCES: pool.maxSequences,
      CAUSEWAY_CHUNK_TOKENS: pool.chunkTokens,
      CAUSEWAY_LAYER_GROUPS: pool.role === 'prefill' ? pool.layerGroups : undefined,
    }),
  };
}

function onOff(value: boolean | undefined): 'on' | 'off' | undefined {
  return value === undefined ? undefined : value ? 'on' : 'off';
}

function given(values: Readonly<Record<string, string | number | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
  );
}
