/** The pools of a topology as Kubernetes runs them: replicas of one pod instead of processes with names of their own. */
import { fail } from '@causeway/errors';
import { poolBudget } from '../memory-share.ts';
import { modelsOf } from '../models.ts';
import { type Placement, type ProcessSpec, renderProcesses } from '../processes.ts';
import type { Role, Topology } from '../schema.ts';
import { MODEL, POD_PORTS } from './names.ts';

export interface PodPool {
  name: string;
  role: Role;
  replicas: number;
  /** As far as its autoscaler may go; NATS knows users up to it. */
  maxReplicas: number;
  entry: string;
  /** Environment less what differs by pod or is secret. */
  env: Readonly<Record<string, string>>;
  cpus: number;
  /** Memory that it fills by its own account, bytes: KV, or weights of experts; undefined for routers. */
  budgetBytes: number | undefined;
}

/** What a pod learns from Kubernetes or the Secret instead of the file. */
const PER_POD = new Set([
  'CAUSEWAY_MODEL_NAME',
  'CAUSEWAY_WORKER_ID',
  'CAUSEWAY_NATS_USER',
  'CAUSEWAY_NATS_PASSWORD',
  'CAUSEWAY_REDIS_URL',
  'CAUSEWAY_ADVERTISE_HOST',
]);

const MIN_CEILING = 4;

/**
 * Pools in the order in which processes start, routers first.
 * @throws ServiceError `bad_config` when processes of a pool differ by more than their name: a pod template could not say it
 */
export function podPools(topology: Topology): PodPool[] {
  const pools = new Map<string, PodPool>();
  for (const spec of renderProcesses(topology, placement(topology))) {
    const env = Object.fromEntries(Object.entries(spec.env).filter(([key]) => !PER_POD.has(key)));
    const known = pools.get(spec.pool);
    if (known === undefined) pools.set(spec.pool, podPool(topology, spec, env));
    else {
      const differs = Object.keys({ ...env, ...known.env }).find(
        (key) => key !== 'CAUSEWAY_THREADS' && env[key] !== known.env[key],
      );
      if (differs !== undefined) {
        fail(
          'invalid_argument',
          'bad_config',
          `the processes of pool ${spec.pool} differ in ${differs}: replicas of a pod can't`,
        );
      }
      pools.set(spec.pool, { ...known, replicas: known.replicas + 1, maxReplicas: ceiling(known.replicas + 1) });
    }
  }
  return [...pools.values()];
}

/** Processes of a pool up to its ceiling, as a StatefulSet numbers them. */
export function podNames(pool: PodPool): string[] {
  return Array.from({ length: pool.maxReplicas }, (_, index) => `${pool.name}-${index}`);
}

function podPool(topology: Topology, spec: ProcessSpec, env: Record<string, string>): PodPool {
  const pool = topology.pools.find(({ name }) => name === spec.pool);
  return {
    name: spec.pool,
    role: spec.role,
    replicas: 1,
    maxReplicas: ceiling(1),
    entry: spec.entry,
    env,
    cpus: Number(env['CAUSEWAY_THREADS'] ?? 1),
    budgetBytes: poolBudget(pool),
  };
}

function ceiling(replicas: number): number {
  return Math.max(MIN_CEILING, 2 * replicas);
}

function placement(topology: Topology): Placement {
  return {
    models: new Map(modelsOf(topology).map((word) => [word, { name: modelName(topology), path: MODEL.mount }])),
    natsUrl: `nats://nats:${POD_PORTS.nats}`,
    natsMonitoringUrl: `http://nats:${POD_PORTS.monitoring}`,
    natsPassword: () => '',
    redisUrl: '',
    host: '0.0.0.0',
    advertiseHost: () => '',
    ports: () => POD_PORTS,
  };
}

/**
 * What clients call the model.
 * @throws ServiceError `bad_config` for several models: the manifests have one claim
 */
export function modelName(topology: Topology): string {
  const [only = topology.model, ...others] = modelsOf(topology);
  if (others.length > 0)
    fail('invalid_argument', 'bad_config', 'the Kubernetes manifests serve one model; this topology names several');
  return only.slice(only.lastIndexOf('/') + 1).replace(/\.gguf$/i, '');
}
