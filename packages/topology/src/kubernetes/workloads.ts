/** Everything of one pool: workload, Services, PodDisruptionBudget, autoscaler. */
import type { Topology } from '../schema.ts';
import { POD_PORTS, poolLabels } from './names.ts';
import { podTemplate } from './pod.ts';
import type { PodPool } from './pools.ts';

/** Manifests of a pool, in the order in which they should be applied. */
export function poolManifests(pool: PodPool, topology: Topology): object[] {
  const labels = poolLabels(pool.name, pool.role);
  const metadata = { name: pool.name, labels };
  const selector = { matchLabels: labels };
  const budget = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata,
    spec: { maxUnavailable: 1, selector },
  };
  const template = podTemplate(pool, topology);
  if (pool.role === 'router') {
    return [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata,
        spec: { selector: labels, ports: [servicePort('http'), servicePort('grpc')] },
      },
      {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata,
        spec: {
          replicas: pool.replicas,
          selector,
          // Streams in flight end within the drain; the next pod is ready before one goes.
          strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          template,
        },
      },
      budget,
      autoscaler(pool, 'Deployment'),
    ];
  }
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      // Names pods; routers reach workers by the addresses in Redis, also before they are ready.
      spec: { clusterIP: 'None', publishNotReadyAddresses: true, selector: labels, ports: [servicePort('rpc')] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata,
      spec: { replicas: pool.replicas, serviceName: pool.name, podManagementPolicy: 'Parallel', selector, template },
    },
    budget,
    autoscaler(pool, 'StatefulSet'),
  ];
}

function servicePort(name: 'http' | 'grpc' | 'rpc'): object {
  return { name, port: POD_PORTS[name], targetPort: name, ...(name === 'http' ? {} : { appProtocol: 'grpc' }) };
}

/** A metric that the autoscaler of a role goes by, and where the Prometheus adapter finds it. */
export interface ScalingMetric {
  /** Name in the metrics API. */
  name: string;
  /** Series in Prometheus: exported by a process, or recorded by a rule. */
  series: string;
  /** `pod`: average over the pool's pods; `cluster`: one value for all. */
  of: 'pod' | 'cluster';
  /** Value that the autoscaler keeps to. */
  target: string;
}

/** By role; a role that isn't here scales by CPU. */
export const SCALING_METRICS: Readonly<Partial<Record<string, readonly ScalingMetric[]>>> = {
  prefill: [{ name: 'causeway_queued_prompt_tokens', series: 'causeway_queued_prompt_tokens', of: 'pod', target: '4096' }],
  decode: [
    { name: 'causeway_kv_cache_usage', series: 'vllm:kv_cache_usage_perc', of: 'pod', target: '700m' },
    { name: 'causeway_itl_p99_seconds', series: 'causeway:itl_seconds:p99', of: 'cluster', target: '100m' },
  ],
};

function autoscaler(pool: PodPool, kind: 'Deployment' | 'StatefulSet'): object {
  const metrics = SCALING_METRICS[pool.role]?.map(({ name, of, target }) =>
    of === 'pod'
      ? { type: 'Pods', pods: { metric: { name }, target: { type: 'AverageValue', averageValue: target } } }
      : { type: 'External', external: { metric: { name }, target: { type: 'Value', value: target } } },
  ) ?? [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 70 } } }];
  return {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: { name: pool.name, labels: poolLabels(pool.name, pool.role) },
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind, name: pool.name },
      minReplicas: pool.replicas,
      maxReplicas: pool.maxReplicas,
      metrics,
      // A worker that goes takes its KV along: slowly down.
      behavior: { scaleDown: { stabilizationWindowSeconds: 600, policies: [{ type: 'Pods', value: 1, periodSeconds: 120 }] } },
    },
  };
}
