/** Services of docker-compose.yml that are not Causeway's processes, and what every container has. */

/** In a container each process has an address of its own, so all use the same ports. */
export const CONTAINER_PORTS = { rpc: 50_061, observability: 9100, http: 8000, grpc: 50_051 } as const;

const MISSING = 'run ./causeway compose, which writes .env';
/** Workers share one; what each may do goes by its user name. No port of NATS is published. */
export const NATS_PASSWORD = `\${CAUSEWAY_NATS_PASSWORD:?${MISSING}}`;
export const REDIS_PASSWORD = `\${CAUSEWAY_REDIS_PASSWORD:?${MISSING}}`;

/** Planes: clients and people reach `front`; `control` has Redis and gRPC; `kv` has NATS, which no router and no client reaches. */
export const NETWORKS = { front: {}, control: { internal: true }, kv: { internal: true } } as const;
export type Network = keyof typeof NETWORKS;

/** What a container may take. */
export interface Limits {
  /** As Compose reads it: `512m`. */
  memory: string;
  /** Processors, as many as it may keep busy; undefined: another setting bounds it. */
  cpus: number | undefined;
  /** Goes before processes that compute where cores are short. */
  first?: boolean;
}

/** Docker's own period of processor time, microseconds. */
const CPU_PERIOD_US = 100_000;

/** Shares of processor time where cores are short; Docker's default is 1024. */
const FIRST_SHARES = 2048;

/**
 * What every container has: no rights, nothing writable but /tmp, its networks, limits of memory, processor time and processes. Processors
 * are a quota and not `cpus`, of which Docker refuses more than the machine has.
 */
export function hardened(networks: readonly Network[], { memory, cpus, first = false }: Limits): object {
  return {
    networks,
    read_only: true,
    tmpfs: ['/tmp'],
    cap_drop: ['ALL'],
    security_opt: ['no-new-privileges:true'],
    mem_limit: memory,
    ...(cpus === undefined ? {} : { cpu_quota: cpus * CPU_PERIOD_US }),
    ...(first ? { cpu_shares: FIRST_SHARES } : {}),
    pids_limit: 512,
    restart: 'unless-stopped',
  };
}

const CHECK = { interval: '2s', timeout: '2s', retries: 15 } as const;

/** Healthy while this is answered with success; by busybox's wget, which the images of these servers have. */
function asked(url: string): object {
  return { test: ['CMD', 'wget', '-q', '-O', '/dev/null', url], ...CHECK };
}

export function servers(): object {
  return {
    nats: {
      image: '${CAUSEWAY_NATS_IMAGE:-nats:2.10-alpine}',
      command: ['-c', '/etc/causeway/nats.conf'],
      user: '1000:1000',
      volumes: ['./deploy/nats/nats.conf:/etc/causeway/nats.conf:ro'],
      environment: { CAUSEWAY_NATS_PASSWORD: NATS_PASSWORD },
      healthcheck: asked('http://127.0.0.1:8222/healthz'),
      ...hardened(['kv'], { memory: '512m', cpus: 2, first: true }),
    },
    redis: {
      image: '${CAUSEWAY_REDIS_IMAGE:-redis:7-alpine}',
      command: ['redis-server', '--save', '', '--appendonly', 'no', '--requirepass', REDIS_PASSWORD],
      user: '1000:1000',
      environment: { REDISCLI_AUTH: REDIS_PASSWORD },
      healthcheck: { test: ['CMD', 'redis-cli', 'ping'], ...CHECK },
      ...hardened(['control'], { memory: '256m', cpus: 1, first: true }),
    },
  };
}

export function observers(routers: readonly string[]): object {
  return {
    prometheus: {
      image: '${CAUSEWAY_PROMETHEUS_IMAGE:-prom/prometheus:v2.55.1}',
      volumes: [
        './deploy/prometheus/prometheus.yml:/etc/prometheus/prometheus.yml:ro',
        './deploy/prometheus/rules:/etc/prometheus/rules:ro',
      ],
      ports: ['127.0.0.1:${CAUSEWAY_PROMETHEUS_PORT:-9090}:9090'],
      healthcheck: asked('http://127.0.0.1:9090/-/ready'),
      depends_on: routers,
      ...hardened(['front', 'control'], { memory: '1g', cpus: 1 }),
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
      healthcheck: asked('http://127.0.0.1:3000/api/health'),
      depends_on: ['prometheus'],
      ...hardened(['front'], { memory: '512m', cpus: 1 }),
      // Its database: dashboards are provisioned anew at each start.
      tmpfs: ['/tmp', '/var/lib/grafana'],
    },
  };
}

/** What runs only when its profile is asked for. */
export function extras(router: string): object {
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
      // It serves nothing that could be asked.
      healthcheck: { disable: true },
      ...hardened(['front'], { memory: '512m', cpus: 1 }),
    },
    jaeger: {
      profiles: ['trace'],
      image: '${CAUSEWAY_JAEGER_IMAGE:-jaegertracing/all-in-one:1.62.0}',
      ports: ['127.0.0.1:${CAUSEWAY_JAEGER_PORT:-16686}:16686'],
      ...hardened(['front', 'control'], { memory: '1g', cpus: 1 }),
    },
  };
}
