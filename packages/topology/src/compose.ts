import { stringify } from 'yaml';
import { renderNatsConfig } from './nats-config.ts';
import { renderProcesses, ROLE_ORDER, type ProcessSpec } from './processes.ts';
import type { Topology } from './schema.ts';

/** In a container each process has an address of its own, so all use the same ports. */
const CONTAINER_PORTS = { rpc: 50_061, observability: 9100, http: 8000, grpc: 50_051 } as const;

const MISSING = 'run ./causeway compose, which writes .env';
/** Workers share one; what each may do goes by its user name. No port of NATS is published. */
const NATS_PASSWORD = `\${CAUSEWAY_NATS_PASSWORD:?${MISSING}}`;
const REDIS_PASSWORD = `\${CAUSEWAY_REDIS_PASSWORD:?${MISSING}}`;

const GENERATED = `# Made from a topology by \`./causeway compose\`; do not edit. CI checks that it is up to date.
#   ./causeway compose && docker compose up --build
#   HTTP http://127.0.0.1:8000/v1 · gRPC 127.0.0.1:50051 · Prometheus :9090 · Grafana :3000; passwords are in .env
# Another model: CAUSEWAY_MODEL_DIR=/path/to/checkpoint CAUSEWAY_MODEL_NAME=name docker compose up
# With a load: docker compose --profile load up. With traces: CAUSEWAY_TRACES_ENDPOINT=http://jaeger:4318/v1/traces docker compose --profile trace up
`;

/** Planes: clients and people reach `front`; `control` has Redis and gRPC; `kv` has NATS, which no router and no client reaches. */
const NETWORKS = { front: {}, control: { internal: true }, kv: { internal: true } } as const;
type Network = keyof typeof NETWORKS;

/** Memory of a worker beside its KV, and of the others. */
const WORKER_BYTES = 2 * 1024 ** 3;
const DEFAULT_KV_BYTES = 2 * 1024 ** 3;

/** What every container has: no rights, nothing writable but /tmp, its networks, limits of memory and processes. */
function hardened(networks: readonly Network[], memory: string): object {
  return {
    networks,
    read_only: true,
    tmpfs: ['/tmp'],
    cap_drop: ['ALL'],
    security_opt: ['no-new-privileges:true'],
    mem_limit: memory,
    pids_limit: 512,
    restart: 'unless-stopped',
  };
}

/** `docker-compose.yml` (Compose file format 3.8) of a topology: NATS, Redis, every process, Prometheus and Grafana. */
export function renderCompose(topology: Topology): string {
  const specs = composeProcesses(topology);
  const routers = specs.filter((spec) => spec.role === 'router').map((spec) => spec.name);
  const workers = specs.filter((spec) => spec.role !== 'router').map((spec) => spec.name);
  return (
    GENERATED +
    stringify(
      {
        version: '3.8',
        services: {
          ...servers(),
          ...Object.fromEntries(specs.map((spec) => [spec.name, service(spec, topology, spec === specs[0], workers)])),
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

function servers(): object {
  const check = { interval: '2s', timeout: '2s', retries: 15 };
  return {
    nats: {
      image: '${CAUSEWAY_NATS_IMAGE:-nats:2.10-alpine}',
      command: ['-c', '/etc/causeway/nats.conf'],
      user: '1000:1000',
      volumes: ['./deploy/nats/nats.conf:/etc/causeway/nats.conf:ro'],
      environment: { CAUSEWAY_NATS_PASSWORD: NATS_PASSWORD },
      healthcheck: { test: ['CMD', 'wget', '-q', '-O', '/dev/null', 'http://127.0.0.1:8222/healthz'], ...check },
      ...hardened(['kv'], '512m'),
    },
    redis: {
      image: '${CAUSEWAY_REDIS_IMAGE:-redis:7-alpine}',
      command: ['redis-server', '--save', '', '--appendonly', 'no', '--requirepass', REDIS_PASSWORD],
      user: '1000:1000',
      environment: { REDISCLI_AUTH: REDIS_PASSWORD },
      healthcheck: { test: ['CMD', 'redis-cli', 'ping'], ...check },
      ...hardened(['control'], '256m'),
    },
  };
}

function observers(routers: readonly string[]): object {
  return {
    prometheus: {
      image: '${CAUSEWAY_PROMETHEUS_IMAGE:-prom/prometheus:v2.55.1}',
      volumes: [
        './deploy/prometheus/prometheus.yml:/etc/prometheus/prometheus.yml:ro',
        './deploy/prometheus/rules:/etc/prometheus/rules:ro',
      ],
      ports: ['127.0.0.1:${CAUSEWAY_PROMETHEUS_PORT:-9090}:9090'],
      depends_on: routers,
      ...hardened(['front', 'control'], '1g'),
    },
    grafana: {
      image: '${CAUSEWAY_GRAFANA_IMAGE:-grafana/grafana:11.3.1}',
      environment: {
        GF_AUTH_ANONYMOUS_ENABLED: 'true',
        GF_AUTH_ANONYMOUS_ORG_ROLE: 'Viewer',
        GF_SECURITY_ADMIN_PASSWORD: `\${CAUSEWAY_GRAFANA_PASSWORD:?${MISSING}}`,
      },
      volumes: [
        './deploy/grafana/provisioning:/etc/grafana/provisioning:ro',
        './deploy/grafana/dashboards:/etc/causeway/dashboards:ro',
      ],
      ports: ['127.0.0.1:${CAUSEWAY_GRAFANA_PORT:-3000}:3000'],
      depends_on: ['prometheus'],
      ...hardened(['front'], '512m'),
      // Its database: dashboards are provisioned anew at each start.
      tmpfs: ['/tmp', '/var/lib/grafana'],
    },
  };
}

/** What runs only when its profile is asked for. */
function extras(router: string): object {
  return {
    load: {
      profiles: ['load'],
      image: '${CAUSEWAY_IMAGE:-causeway}',
      command: ['services/load/src/main.ts'],
      environment: {
        CAUSEWAY_LOAD_URL: `http://${router}:${CONTAINER_PORTS.http}`,
        CAUSEWAY_LOAD_RATE: '${CAUSEWAY_LOAD_RATE:-1}',
        CAUSEWAY_API_KEYS: '${CAUSEWAY_API_KEYS:-}',
      },
      depends_on: { [router]: { condition: 'service_healthy' } },
      ...hardened(['front'], '512m'),
    },
    jaeger: {
      profiles: ['trace'],
      image: '${CAUSEWAY_JAEGER_IMAGE:-jaegertracing/all-in-one:1.62.0}',
      ports: ['127.0.0.1:${CAUSEWAY_JAEGER_PORT:-16686}:16686'],
      ...hardened(['front', 'control'], '1g'),
    },
  };
}

/** `prometheus.yml`: every process of the topology by name. */
export function renderPrometheus(topology: Topology): string {
  const specs = composeProcesses(topology);
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
    renderNatsConfig(topology, composeProcesses(topology), {
      listen: '0.0.0.0:4222',
      http: '127.0.0.1:8222',
      password: () => '$CAUSEWAY_NATS_PASSWORD',
    })
  );
}

function composeProcesses(topology: Topology): ProcessSpec[] {
  return renderProcesses(topology, {
    modelPath: '/model',
    modelName: `\${CAUSEWAY_MODEL_NAME:-${topology.model}}`,
    // The machine is not known when the file is written: two threads for each worker that says auto, unless the environment says more.
    machineCores: 1,
    natsUrl: 'nats://nats:4222',
    natsPassword: () => NATS_PASSWORD,
    redisUrl: `redis://:${REDIS_PASSWORD}@redis:6379`,
    host: '0.0.0.0',
    advertiseHost: (name) => name,
    ports: () => CONTAINER_PORTS,
  });
}

/**
 * @param published the host opens its ports: the first router
 * @param workers what routers depend on, so that they are stopped first
 */
function service(spec: ProcessSpec, topology: Topology, published: boolean, workers: readonly string[]): object {
  const env = { ...spec.env };
  const pool = topology.pools.find((candidate) => candidate.name === spec.pool);
  if (pool !== undefined && pool.role !== 'router' && pool.cores === undefined && typeof pool.threads !== 'number') {
    env['CAUSEWAY_THREADS'] = `\${CAUSEWAY_${spec.role.toUpperCase()}_THREADS:-2}`;
  }
  env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] ??= '${CAUSEWAY_TRACES_ENDPOINT:-}';
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
    volumes: [
      `\${CAUSEWAY_MODEL_DIR:-${topology.model.includes('/') ? topology.model : `./models/${topology.model}`}}:/model:ro`,
    ],
    ...ports,
    ...(spec.cores === undefined ? {} : { cpuset: spec.cores.join(',') }),
    depends_on: Object.fromEntries(
      (spec.role === 'router' ? ['redis', ...workers] : ['nats', 'redis']).map((name) => [
        name,
        { condition: 'service_healthy' },
      ]),
    ),
    healthcheck: { test: ['CMD', 'node', '-e', probe], interval: '5s', timeout: '4s', retries: 3, start_period: '60s' },
    // The process drains on SIGTERM; Docker must not kill it before.
    stop_grace_period: `${Math.ceil(topology.drain / 1000) + 10}s`,
    init: true,
    ...hardened(spec.role === 'router' ? ['front', 'control'] : ['control', 'kv'], memory(pool)),
  };
}

/** Its KV and room for weights; `CAUSEWAY_WORKER_MEMORY` is for larger models. */
function memory(pool: Topology['pools'][number] | undefined): string {
  if (pool === undefined || pool.role === 'router') return '1g';
  const kv = 'kvBudget' in pool ? pool.kvBudget : undefined;
  return `\${CAUSEWAY_WORKER_MEMORY:-${Math.ceil(((kv ?? DEFAULT_KV_BYTES) + WORKER_BYTES) / 1024 ** 2)}m}`;
}
