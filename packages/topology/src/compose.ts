import { stringify } from 'yaml';
import {
  CONTAINER_PORTS,
  extras,
  hardened,
  NATS_PASSWORD,
  NETWORKS,
  observers,
  REDIS_PASSWORD,
  servers,
} from './compose-servers.ts';
import { BESIDE_BUDGET_BYTES, poolBudget } from './memory-share.ts';
import { modelOf, modelsOf, type ModelTable, servedModel } from './models.ts';
import { renderNatsConfig } from './nats-config.ts';
import { renderProcesses, ROLE_ORDER, type ProcessSpec } from './processes.ts';
import type { Topology } from './schema.ts';
import { AUTO_THREADS, hasAutoThreads } from './threads.ts';

const GENERATED = `# Made from a topology by \`./causeway compose\`; do not edit. CI checks that it is up to date.
#   ./causeway compose && docker compose up --build
#   HTTP http://127.0.0.1:8000/v1 · gRPC 127.0.0.1:50051 · Prometheus :9090 · Grafana :3000; passwords are in .env
# Another model: CAUSEWAY_MODEL_DIR=/path/to/checkpoint CAUSEWAY_MODEL_NAME=name docker compose up
# With a load: docker compose --profile load up. With traces: CAUSEWAY_TRACES_ENDPOINT=http://jaeger:4318/v1/traces docker compose --profile trace up
`;

/**
 * `docker-compose.yml` (Compose specification; docker-compose 1.29 and Docker Compose 2 read it) of a topology: NATS, Redis, every process, Prometheus and Grafana.
 * @param models where they are on the host, relative to the file; default: folders in models/
 */
export function renderCompose(topology: Topology, models: ModelTable = builtIn(topology)): string {
  const specs = composeProcesses(topology, models);
  const routers = specs.filter((spec) => spec.role === 'router').map((spec) => spec.name);
  const named = (...roles: ProcessSpec['role'][]): string[] =>
    specs.filter(({ role }) => roles.includes(role)).map(({ name }) => name);
  const peers = { workers: named('prefill', 'decode'), experts: named('expert') };
  return (
    GENERATED +
    stringify(
      {
        services: {
          ...servers(),
          ...Object.fromEntries(
            specs.map((spec) => [
              spec.name,
              service(spec, topology, { published: spec === specs[0], ...peers, volumes: volumes(spec, topology, models) }),
            ]),
          ),
          ...observers(routers),
          ...extras(specs[0]?.name ?? 'router'),
        },
        networks: NETWORKS,
      },
      // Compose 1 reads YAML 1.1, where a bare `no` is false.
      { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false },
    )
  );
}

/** `prometheus.yml`: every process of the topology by name. */
export function renderPrometheus(topology: Topology): string {
  const specs = composeProcesses(topology, builtIn(topology));
  const jobs = ROLE_ORDER.map((role) => ({
    job_name: role,
    static_configs: [...new Set(specs.filter((spec) => spec.role === role).map((spec) => spec.pool))].map((pool) => ({
      targets: specs.filter((spec) => spec.pool === pool).map((spec) => `${spec.name}:${CONTAINER_PORTS.observability}`),
      labels: { pool },
    })),
  }));
  return (
    '# Made from a topology by `./causeway compose`; do not edit. CI checks that it is up to date.\n' +
    stringify({
      global: { scrape_interval: '5s', evaluation_interval: '15s' },
      rule_files: ['/etc/prometheus/rules/*.yml'],
      scrape_configs: jobs.filter((job) => job.static_configs.length > 0),
    })
  );
}

/** `nats.conf` of the container. */
export function renderComposeNats(topology: Topology): string {
  return (
    '# Made from a topology by `./causeway compose`; do not edit. CI checks that it is up to date.\n' +
    renderNatsConfig(topology, composeProcesses(topology, builtIn(topology)), {
      listen: '0.0.0.0:4222',
      // The network of the workers alone reaches it.
      http: '0.0.0.0:8222',
      password: () => '$CAUSEWAY_NATS_PASSWORD',
    })
  );
}

function builtIn(topology: Topology): ModelTable {
  return new Map(modelsOf(topology).map((word) => [word, { name: word, path: `./models/${word}` }]));
}

/** One model can be exchanged by the environment; of several each has a folder of its own in the containers. */
function inContainer(topology: Topology, models: ModelTable): ModelTable {
  const words = modelsOf(topology);
  return new Map(
    words.map((word, index) => {
      const { name } = servedModel(models, word);
      const only = { name: `\${CAUSEWAY_MODEL_NAME:-${name}}`, path: '/model' };
      return [word, words.length === 1 ? only : { name, path: `/models/${index}` }];
    }),
  );
}

/** What a process mounts: its model, or every model for a router, and a router's chat template. */
function volumes(spec: ProcessSpec, topology: Topology, models: ModelTable): string[] {
  const template = spec.env['CAUSEWAY_CHAT_TEMPLATE'];
  return [...modelVolumes(spec, topology, models), ...(template === undefined ? [] : [`${template}:${CHAT_TEMPLATE}:ro`])];
}

function modelVolumes(spec: ProcessSpec, topology: Topology, models: ModelTable): string[] {
  const words = modelsOf(topology);
  const [only] = words;
  if (words.length === 1 && only !== undefined) return [`\${CAUSEWAY_MODEL_DIR:-${servedModel(models, only).path}}:/model:ro`];
  const inside = inContainer(topology, models);
  const pool = topology.pools.find((candidate) => candidate.name === spec.pool);
  const mounted = pool === undefined || pool.role === 'router' ? words : [modelOf(topology, pool)];
  return mounted.map((word) => `${servedModel(models, word).path}:${servedModel(inside, word).path}:ro`);
}

function composeProcesses(topology: Topology, models: ModelTable): ProcessSpec[] {
  return renderProcesses(topology, {
    models: inContainer(topology, models),
    natsUrl: 'nats://nats:4222',
    natsMonitoringUrl: 'http://nats:8222',
    natsPassword: () => NATS_PASSWORD,
    redisUrl: `redis://:${REDIS_PASSWORD}@redis:6379`,
    host: '0.0.0.0',
    advertiseHost: (name) => name,
    ports: () => CONTAINER_PORTS,
  });
}

/** Where a router finds the topology's chat template. */
const CHAT_TEMPLATE = '/chat-template.jinja';

interface ServiceSetting {
  /** The host opens its ports: the first router. */
  published: boolean;
  /** What routers depend on, so that they are stopped first. */
  workers: readonly string[];
  /** What workers depend on. */
  experts: readonly string[];
  volumes: readonly string[];
}

/** What must be healthy before a process starts: routers are stopped first, then workers; only workers move KV. */
function dependencies(role: ProcessSpec['role'], { workers, experts }: Pick<ServiceSetting, 'workers' | 'experts'>): string[] {
  if (role === 'router') return ['redis', ...workers];
  return role === 'expert' ? ['redis'] : ['nats', 'redis', ...experts];
}

function service(spec: ProcessSpec, topology: Topology, { published, volumes: mounted, ...peers }: ServiceSetting): object {
  const env = { ...spec.env };
  const pool = topology.pools.find((candidate) => candidate.name === spec.pool);
  const auto = pool !== undefined && pool.role !== 'router' && hasAutoThreads(pool);
  if (auto) env['CAUSEWAY_THREADS'] = `\${CAUSEWAY_${spec.role.toUpperCase()}_THREADS:-${AUTO_THREADS}}`;
  if (env['CAUSEWAY_CHAT_TEMPLATE'] !== undefined) env['CAUSEWAY_CHAT_TEMPLATE'] = CHAT_TEMPLATE;
  if (spec.role === 'expert') env['CAUSEWAY_EXPERT_MEMORY_BYTES'] ??= '${CAUSEWAY_EXPERT_MEMORY_BYTES:-}';
  else env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] ??= '${CAUSEWAY_TRACES_ENDPOINT:-}';
  if (spec.role === 'router') env['CAUSEWAY_API_KEYS'] = '${CAUSEWAY_API_KEYS:-}';
  const ports = published
    ? {
        ports: [
          `\${CAUSEWAY_BIND:-127.0.0.1}:\${CAUSEWAY_HTTP_PORT:-8000}:${CONTAINER_PORTS.http}`,
          `\${CAUSEWAY_BIND:-127.0.0.1}:\${CAUSEWAY_GRPC_PORT:-50051}:${CONTAINER_PORTS.grpc}`,
        ],
      }
    : {};
  const probe = `fetch('http://127.0.0.1:${CONTAINER_PORTS.observability}/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`;
  return {
    image: '${CAUSEWAY_IMAGE:-causeway}',
    build: {
      context: '.',
      dockerfile: 'deploy/docker/Dockerfile',
      args: { BASE_IMAGE: '${CAUSEWAY_BASE_IMAGE:-node:24-bookworm-slim}' },
    },
    command: [spec.entry],
    environment: env,
    volumes: mounted,
    ...ports,
    depends_on: Object.fromEntries(dependencies(spec.role, peers).map((name) => [name, { condition: 'service_healthy' }])),
    // Each check starts a Node: on a busy machine that takes its time.
    healthcheck: { test: ['CMD', 'node', '-e', probe], interval: '5s', timeout: '10s', retries: 5, start_period: '60s' },
    // The process drains on SIGTERM; Docker must not kill it before.
    stop_grace_period: `${Math.ceil(topology.drain / 1000) + 10}s`,
    init: true,
    ...processors(spec, auto),
    ...hardened(networksOf(spec.role), {
      memory: memory(pool),
      cpus: processorLimit(spec, auto),
      first: spec.role === 'router',
    }),
  };
}

/** A router streams in one thread and tokenizes in others. */
const ROUTER_CPUS = 2;
/** Beside threads that compute: the event loop, codecs and connections. */
const BESIDE_THREADS_CPUS = 1;

/** Processors that a process may keep busy, where they are known when the file is written and it is not bound to cores. */
function processorLimit(spec: ProcessSpec, auto: boolean): number | undefined {
  if (spec.role === 'router') return ROUTER_CPUS;
  return auto || spec.cores !== undefined ? undefined : Number(spec.env['CAUSEWAY_THREADS']) + BESIDE_THREADS_CPUS;
}

/** Its cores; of a worker that says `auto` its threads are the environment's, and so is a limit of processors: 0 is none. */
function processors({ role, cores }: ProcessSpec, auto: boolean): object {
  if (cores !== undefined) return { cpuset: cores.join(',') };
  return auto ? { cpus: `\${CAUSEWAY_${role.toUpperCase()}_CPUS:-0}` } : {};
}

/** Who hears whom: shards answer workers over gRPC and move no KV. */
function networksOf(role: ProcessSpec['role']): ('front' | 'control' | 'kv')[] {
  if (role === 'router') return ['front', 'control'];
  return role === 'expert' ? ['control'] : ['control', 'kv'];
}

/** Its KV or experts and room for the rest; `CAUSEWAY_WORKER_MEMORY` and `CAUSEWAY_SHARD_MEMORY` are for larger models. */
function memory(pool: Topology['pools'][number] | undefined): string {
  const budget = poolBudget(pool);
  if (budget === undefined) return '1g';
  const variable = pool?.role === 'expert' ? 'CAUSEWAY_SHARD_MEMORY' : 'CAUSEWAY_WORKER_MEMORY';
  return `\${${variable}:-${Math.ceil((budget + BESIDE_BUDGET_BYTES) / 1024 ** 2)}m}`;
}
