import { stringify } from 'yaml';
import { modelOf, modelsOf, type ModelTable, servedModel } from './models.ts';
import { renderNatsConfig } from './nats-config.ts';
import { renderProcesses, ROLE_ORDER, type ProcessSpec } from './processes.ts';
import type { Topology } from './schema.ts';

/** In a container each process has an address of its own, so all use the same ports. */
const CONTAINER_PORTS = { rpc: 50_061, observability: 9100, http: 8000, grpc: 50_051 } as const;

/** Workers share one; what each may do goes by its user name. No port of NATS is published. */
const NATS_PASSWORD = '${CAUSEWAY_NATS_PASSWORD:-causeway}';

const GENERATED = `# Made from a topology by \`./causeway compose\`; do not edit. CI checks that it is up to date.
#   docker compose up --build      HTTP http://127.0.0.1:8000/v1 · gRPC 127.0.0.1:50051 · Prometheus :9090 · Grafana :3000
# Another model: CAUSEWAY_MODEL_DIR=/path/to/checkpoint CAUSEWAY_MODEL_NAME=name docker compose up
`;

/**
 * `docker-compose.yml` (Compose file format 3.8) of a topology: NATS, Redis, every process, Prometheus and Grafana.
 * @param models where they are on the host, relative to the file; default: folders in models/
 */
export function renderCompose(topology: Topology, models: ModelTable = builtIn(topology)): string {
  const specs = composeProcesses(topology, models);
  const routers = specs.filter((spec) => spec.role === 'router').map((spec) => spec.name);
  const workers = specs.filter((spec) => spec.role !== 'router').map((spec) => spec.name);
  return (
    GENERATED +
    stringify(
      {
        version: '3.8',
        services: {
          nats: {
            image: '${CAUSEWAY_NATS_IMAGE:-nats:2.10-alpine}',
            command: ['-c', '/etc/causeway/nats.conf'],
            volumes: ['./deploy/nats/nats.conf:/etc/causeway/nats.conf:ro'],
            environment: { CAUSEWAY_NATS_PASSWORD: NATS_PASSWORD },
            restart: 'unless-stopped',
          },
          redis: {
            image: '${CAUSEWAY_REDIS_IMAGE:-redis:7-alpine}',
            // Reached by other containers only: no port is published.
            command: ['redis-server', '--save', '', '--appendonly', 'no', '--protected-mode', 'no'],
            restart: 'unless-stopped',
          },
          ...Object.fromEntries(
            specs.map((spec) => [
              spec.name,
              service(spec, topology, { published: spec === specs[0], workers, volumes: volumes(spec, topology, models) }),
            ]),
          ),
          prometheus: {
            image: '${CAUSEWAY_PROMETHEUS_IMAGE:-prom/prometheus:v2.55.1}',
            volumes: ['./deploy/prometheus/prometheus.yml:/etc/prometheus/prometheus.yml:ro'],
            ports: ['127.0.0.1:${CAUSEWAY_PROMETHEUS_PORT:-9090}:9090'],
            depends_on: routers,
            restart: 'unless-stopped',
          },
          grafana: {
            image: '${CAUSEWAY_GRAFANA_IMAGE:-grafana/grafana:11.3.1}',
            environment: { GF_AUTH_ANONYMOUS_ENABLED: 'true', GF_AUTH_ANONYMOUS_ORG_ROLE: 'Viewer' },
            volumes: [
              './deploy/grafana/provisioning:/etc/grafana/provisioning:ro',
              './deploy/grafana/dashboards:/var/lib/grafana/dashboards:ro',
            ],
            ports: ['127.0.0.1:${CAUSEWAY_GRAFANA_PORT:-3000}:3000'],
            depends_on: ['prometheus'],
            restart: 'unless-stopped',
          },
        },
      },
      // Compose 1 reads YAML 1.1, where a bare `no` is false.
      { version: '1.1', lineWidth: 0 },
    )
  );
}

/** `prometheus.yml`: every process of the topology by name. */
export function renderPrometheus(topology: Topology): string {
  const jobs = ROLE_ORDER.map((role) => ({
    job_name: role,
    static_configs: [
      {
        targets: composeProcesses(topology, builtIn(topology))
          .filter((spec) => spec.role === role)
          .map((spec) => `${spec.name}:${CONTAINER_PORTS.observability}`),
      },
    ],
  }));
  return (
    '# Made from a topology by `./causeway compose`; do not edit. CI checks that it is up to date.\n' +
    stringify({
      global: { scrape_interval: '5s' },
      scrape_configs: jobs.filter((job) => job.static_configs[0]?.targets.length !== 0),
    })
  );
}

/** `nats.conf` of the container. */
export function renderComposeNats(topology: Topology): string {
  return (
    '# Made from a topology by `./causeway compose`; do not edit. CI checks that it is up to date.\n' +
    renderNatsConfig(topology, composeProcesses(topology, builtIn(topology)), {
      listen: '0.0.0.0:4222',
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

/** What a process mounts: its model, or every model for a router. */
function volumes(spec: ProcessSpec, topology: Topology, models: ModelTable): string[] {
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
    // The machine is not known when the file is written: two threads for each worker that says auto, unless the environment says more.
    machineCores: 1,
    natsUrl: 'nats://nats:4222',
    natsPassword: () => NATS_PASSWORD,
    redisUrl: 'redis://redis:6379',
    host: '0.0.0.0',
    advertiseHost: (name) => name,
    ports: () => CONTAINER_PORTS,
  });
}

interface ServiceSetting {
  /** The host opens its ports: the first router. */
  published: boolean;
  /** What routers depend on, so that they are stopped first. */
  workers: readonly string[];
  volumes: readonly string[];
}

function service(spec: ProcessSpec, topology: Topology, { published, workers, volumes: mounted }: ServiceSetting): object {
  const env = { ...spec.env };
  const pool = topology.pools.find((candidate) => candidate.name === spec.pool);
  if (pool !== undefined && pool.role !== 'router' && pool.cores === undefined && typeof pool.threads !== 'number') {
    env['CAUSEWAY_THREADS'] = `\${CAUSEWAY_${spec.role.toUpperCase()}_THREADS:-2}`;
  }
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
    ...(spec.cores === undefined ? {} : { cpuset: spec.cores.join(',') }),
    depends_on: [...(spec.role === 'expert' ? [] : ['nats']), 'redis', ...(spec.role === 'router' ? workers : [])],
    healthcheck: { test: ['CMD', 'node', '-e', probe], interval: '5s', timeout: '4s', retries: 3, start_period: '60s' },
    // The process drains on SIGTERM; Docker must not kill it before.
    stop_grace_period: `${Math.ceil(topology.drain / 1000) + 10}s`,
    init: true,
    restart: 'unless-stopped',
  };
}
