import { fileURLToPath } from 'node:url';
import { eventually } from './eventually.ts';
import { type NatsOptions, type NatsServer, startNats } from './nats.ts';
import { type ServiceProcess, startProcess } from './process.ts';
import { type RedisServer, startRedis } from './redis.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

const READY_MS = 120_000;

export interface ClusterOptions {
  /** Checkpoint directory or file. */
  model: string;
  modelName?: string;
  /** Workers of each role; default one. */
  prefill?: number;
  decode?: number;
  /** Expert shards; default none, then workers have their own experts. */
  expert?: number;
  /** How long a process may take to be ready; default two minutes. */
  readyMs?: number;
  /** Start a router too; default false. */
  router?: boolean;
  nats?: NatsOptions;
  /** Environment of every worker. */
  workerEnv?: Readonly<Record<string, string>>;
  /** Environment of one process by its id (`prefill-1`, `decode-1`, `router`), over the others. */
  env?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** Roles of workers and of expert shards. */
export type WorkerRole = 'prefill' | 'decode' | 'expert';

export interface ClusterWorker {
  id: string;
  role: WorkerRole;
  /** gRPC, host:port. */
  address: string;
  /** Metrics and health, host:port. */
  observability: string;
  process: ServiceProcess;
}

export interface ClusterRouter {
  http: string;
  grpc: string;
  observability: string;
  process: ServiceProcess;
}

/** Real processes on free ports: NATS, Redis, workers and perhaps a router. */
export interface Cluster extends AsyncDisposable {
  nats: NatsServer;
  redis: RedisServer;
  workers: ClusterWorker[];
  router: ClusterRouter;
  worker(id: string): ClusterWorker;
  /** Starts (again) a worker of this id and waits until it is ready; replaces the one before it. */
  startWorker(role: WorkerRole, id: string, env?: Readonly<Record<string, string>>): Promise<ClusterWorker>;
  startRouter(env?: Readonly<Record<string, string>>): Promise<ClusterRouter>;
}

/** Starts a cluster and waits until every process is ready. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  await using starting = new AsyncDisposableStack();
  // Whatever is started later, also after this function has returned, ends with the cluster.
  let owner = starting;
  const [nats, redis] = await Promise.all([startNats(options.nats), startRedis()]);
  owner.use(nats);
  owner.use(redis);
  const common = {
    CAUSEWAY_NATS_URL: nats.url,
    CAUSEWAY_REDIS_URL: redis.url,
    CAUSEWAY_MODEL_PATH: options.model,
    UV_THREADPOOL_SIZE: '8',
    ...(options.modelName === undefined ? {} : { CAUSEWAY_MODEL_NAME: options.modelName }),
  };
  const shards = options.expert ?? 0;
  const remote = shards === 0 ? {} : { CAUSEWAY_EXPERTS: 'remote', CAUSEWAY_EXPERT_SHARDS: String(shards) };
  const workers: ClusterWorker[] = [];
  let router: ClusterRouter | undefined;

  const startWorker: Cluster['startWorker'] = async (role, id, env = {}) => {
    const process = startProcess({
      script: `${ROOT}/services/${role}/src/main.ts`,
      env: { ...common, ...remote, CAUSEWAY_WORKER_ID: id, ...options.workerEnv, ...options.env?.[id], ...env },
    });
    owner.use(process);
    const ready = await process.waitForLog((line) => line.msg === 'ready', options.readyMs ?? READY_MS);
    const worker = { id, role, address: String(ready.rpc), observability: String(ready.observability), process };
    const before = workers.findIndex((other) => other.id === id);
    if (before === -1) workers.push(worker);
    else workers[before] = worker;
    return worker;
  };
  const startRouter: Cluster['startRouter'] = async (env = {}) => {
    const process = startProcess({
      script: `${ROOT}/services/router/src/main.ts`,
      env: { ...common, CAUSEWAY_HTTP_PORT: '0', CAUSEWAY_GRPC_PORT: '0', ...options.env?.router, ...env },
    });
    owner.use(process);
    const ready = await process.waitForLog((line) => line.msg === 'ready', options.readyMs ?? READY_MS);
    router = { http: String(ready.http), grpc: String(ready.grpc), observability: String(ready.observability), process };
    return router;
  };

  const ids = (role: WorkerRole, count: number): Promise<ClusterWorker>[] =>
    Array.from({ length: count }, (_, i) => startWorker(role, `${role}-${i + 1}`));
  await Promise.all([
    ...ids('prefill', options.prefill ?? 1),
    ...ids('decode', options.decode ?? 1),
    ...ids('expert', shards),
    ...(options.router === true ? [startRouter()] : []),
  ]);
  if (router !== undefined) await seesWorkers(router, workers);
  const owned = starting.move();
  owner = owned;
  return {
    nats,
    redis,
    workers,
    get router() {
      if (router === undefined) throw new Error('this cluster was started without a router');
      return router;
    },
    worker: (id) => {
      const found = workers.find((worker) => worker.id === id);
      if (found === undefined) throw new Error(`no worker ${id}; there are ${workers.map((worker) => worker.id).join(', ')}`);
      return found;
    },
    startWorker,
    startRouter,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Waits until the router's snapshot holds every worker: it reads Redis a few times a second. */
async function seesWorkers(router: ClusterRouter, workers: readonly ClusterWorker[]): Promise<void> {
  await eventually(
    async () => {
      const metrics = await (await fetch(`http://${router.observability}/metrics`)).text();
      return (['prefill', 'decode'] as const).every((role) => {
        const count = workers.filter((worker) => worker.role === role).length;
        return metrics.includes(`causeway_registry_workers{role="${role}"} ${count}\n`);
      });
    },
    { what: 'the router to see every worker' },
  );
}
