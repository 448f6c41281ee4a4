/** The pod of a Causeway process: what it runs, when it is alive and ready, how it ends. */
import { BESIDE_BUDGET_BYTES } from '../memory-share.ts';
import { natsUser } from '../nats-config.ts';
import type { Topology } from '../schema.ts';
import {
  COMPONENT,
  CONTAINER_SECURITY,
  fromSecret,
  IMAGE,
  MODEL,
  MODEL_CONFIG,
  NAME,
  PART_OF,
  podSecurity,
  POD_PORTS,
  poolLabels,
} from './names.ts';
import type { PodPool } from './pools.ts';

/** Until kube-proxy and load balancers have seen that the pod is not ready, it must still take connections. */
const PRE_STOP_SECONDS = 5;
/** Beyond a process's own drain: closing connections and unwinding. */
const UNWIND_SECONDS = 10;
const ROUTER_BYTES = 1024 ** 3;

/** The pod template of a pool. */
export function podTemplate(pool: PodPool, topology: Topology): object {
  const labels = poolLabels(pool.name, pool.role);
  return {
    metadata: { labels },
    spec: {
      serviceAccountName: `causeway-${pool.role}`,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: graceSeconds(topology),
      securityContext: podSecurity(1000),
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: 'kubernetes.io/hostname',
          whenUnsatisfiable: 'ScheduleAnyway',
          labelSelector: { matchLabels: { [PART_OF]: labels[PART_OF], [NAME]: labels[NAME], [COMPONENT]: labels[COMPONENT] } },
        },
      ],
      initContainers: [waitForModel()],
      containers: [container(pool)],
      volumes: [
        { name: 'model', persistentVolumeClaim: { claimName: MODEL.claim, readOnly: true } },
        { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
      ],
    },
  };
}

/** preStop, then the process's own drain, then unwinding: Kubernetes must not kill it before. */
export function graceSeconds(topology: Topology): number {
  return PRE_STOP_SECONDS + Math.ceil(topology.drain / 1000) + UNWIND_SECONDS;
}

function waitForModel(): object {
  const script = `until [ -e ${MODEL.complete} ]; do echo "waiting for the Job ${MODEL.job} to fill the claim ${MODEL.claim}"; sleep 2; done`;
  return {
    name: 'wait-for-model',
    image: IMAGE,
    command: ['sh', '-c', script],
    securityContext: CONTAINER_SECURITY,
    resources: { requests: { cpu: '10m', memory: '16Mi' }, limits: { memory: '64Mi' } },
    volumeMounts: [{ name: 'model', mountPath: MODEL.mount, readOnly: true }],
  };
}

function container(pool: PodPool): object {
  const memory = `${Math.ceil((pool.budgetBytes === undefined ? ROUTER_BYTES : pool.budgetBytes + BESIDE_BUDGET_BYTES) / 1024 ** 2)}Mi`;
  const probe = (path: string): object => ({ httpGet: { path, port: 'observability' } });
  return {
    name: pool.role,
    image: IMAGE,
    args: [pool.entry],
    env: environment(pool),
    ports: ports(pool),
    // Large checkpoints load for minutes; the process answers /livez all the while.
    startupProbe: { ...probe('/livez'), periodSeconds: 2, failureThreshold: 30 },
    livenessProbe: { ...probe('/livez'), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    readinessProbe: { ...probe('/readyz'), periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2 },
    lifecycle: { preStop: { exec: { command: ['sleep', String(PRE_STOP_SECONDS)] } } },
    securityContext: CONTAINER_SECURITY,
    resources: { requests: { cpu: String(pool.cpus), memory }, limits: { memory } },
    volumeMounts: [
      { name: 'model', mountPath: MODEL.mount, readOnly: true },
      { name: 'tmp', mountPath: '/tmp' },
    ],
  };
}

function environment(pool: PodPool): object[] {
  const fromPod = (name: string, fieldPath: string): object => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const plain = [
    ...Object.entries(pool.env).map(([name, value]) => ({ name, value })),
    { name: 'CAUSEWAY_MODEL_NAME', valueFrom: { configMapKeyRef: { name: MODEL_CONFIG, key: 'CAUSEWAY_MODEL_NAME' } } },
  ];
  const redis = fromSecret('CAUSEWAY_REDIS_URL');
  if (pool.role === 'router') return [...plain, redis, fromSecret('CAUSEWAY_API_KEYS', true)];
  // A StatefulSet's pod keeps its name: the worker's id, and its user name at NATS.
  const named = [
    ...plain,
    fromPod('CAUSEWAY_WORKER_ID', 'metadata.name'),
    fromPod('CAUSEWAY_ADVERTISE_HOST', 'status.podIP'),
    redis,
  ];
  if (pool.role === 'expert') return named;
  return [
    ...named,
    { name: 'CAUSEWAY_NATS_USER', value: natsUser(pool.env['CAUSEWAY_NAMESPACE'], '$(CAUSEWAY_WORKER_ID)') },
    fromSecret('CAUSEWAY_NATS_PASSWORD'),
  ];
}

function ports(pool: PodPool): object[] {
  const named = (name: 'http' | 'grpc' | 'rpc' | 'observability'): object => ({ name, containerPort: POD_PORTS[name] });
  return (pool.role === 'router' ? (['http', 'grpc', 'observability'] as const) : (['rpc', 'observability'] as const)).map(named);
}
