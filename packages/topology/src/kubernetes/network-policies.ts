/** Who may reach whom: everything else is closed, in both directions. */
import type { Topology } from '../schema.ts';
import { COMPONENT, type Component, NAME, PART_OF, POD_PORTS } from './names.ts';
import type { PodPool } from './pools.ts';

/** A way that is open; `from` 'anywhere' is what is outside the cluster of ours. */
interface Way {
  to: readonly Component[];
  ports: readonly number[];
  from: readonly Component[] | 'anywhere' | 'prometheus';
}

/**
 * The planes: front (HTTP and gRPC), control (Redis, gRPC between processes), KV (NATS, which routers and expert shards never see), metrics.
 * Expert shards are called by workers alone.
 */
function ways(pools: readonly PodPool[]): Way[] {
  const roles = [...new Set(pools.map(({ role }) => role))];
  const workers = roles.filter((role) => role === 'prefill' || role === 'decode');
  const experts = roles.filter((role) => role === 'expert');
  return [
    { to: ['router'], ports: [POD_PORTS.http, POD_PORTS.grpc], from: 'anywhere' },
    { to: workers, ports: [POD_PORTS.rpc], from: ['router', ...workers] },
    { to: experts, ports: [POD_PORTS.rpc], from: workers },
    { to: ['nats'], ports: [POD_PORTS.nats, POD_PORTS.monitoring], from: workers },
    { to: ['redis'], ports: [POD_PORTS.redis], from: roles },
    { to: roles, ports: [POD_PORTS.observability], from: 'prometheus' },
  ];
}

/** Closed by default; then one policy for each kind of pod with what it may be reached by and what it may reach. */
export function networkPolicies(pools: readonly PodPool[], topology: Topology): object[] {
  const open = ways(pools);
  const components = [...new Set<Component>([...pools.map(({ role }) => role), 'nats', 'redis', 'model'])];
  return [
    policy('causeway-closed', { [PART_OF]: 'causeway' }, { policyTypes: ['Ingress', 'Egress'] }),
    ...components.map((component) => {
      const ingress = open
        .filter(({ to }) => to.includes(component))
        .map(({ from, ports }) => ({ ...peers('from', from), ports: tcp(ports) }));
      const egress = open
        .filter(({ from }) => Array.isArray(from) && from.includes(component))
        .map(({ to, ports }) => ({ ...peers('to', to), ports: tcp(ports) }));
      return policy(
        `causeway-${component}`,
        { [PART_OF]: 'causeway', [COMPONENT]: component },
        {
          policyTypes: ['Ingress', 'Egress'],
          ...(ingress.length === 0 ? {} : { ingress }),
          egress: [DNS, ...egress, ...outside(component, topology)],
        },
      );
    }),
  ];
}

const DNS = {
  ports: [
    { port: 53, protocol: 'UDP' },
    { port: 53, protocol: 'TCP' },
  ],
} as const;

/** The model's Job fetches over HTTPS; processes that trace reach their collector. */
function outside(component: Component, topology: Topology): object[] {
  if (component === 'model') return [{ ports: tcp([443]) }];
  if (topology.traces === undefined || component === 'nats' || component === 'redis') return [];
  const { port, protocol } = new URL(topology.traces.endpoint);
  return [{ ports: tcp([Number(port || (protocol === 'https:' ? 443 : 80))]) }];
}

function policy(name: string, matchLabels: Record<string, string>, spec: object): object {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, labels: { [PART_OF]: 'causeway' } },
    spec: { podSelector: { matchLabels }, ...spec },
  };
}

function peers(direction: 'from' | 'to', of: Way['from']): object {
  if (of === 'anywhere') return {};
  // Prometheus is not ours: any pod of that name, in whichever namespace it runs.
  if (of === 'prometheus')
    return { [direction]: [{ namespaceSelector: {}, podSelector: { matchLabels: { [NAME]: 'prometheus' } } }] };
  return {
    [direction]: [
      {
        podSelector: {
          matchLabels: { [PART_OF]: 'causeway' },
          matchExpressions: [{ key: COMPONENT, operator: 'In', values: [...of] }],
        },
      },
    ],
  };
}

function tcp(ports: readonly number[]): object[] {
  return ports.map((port) => ({ port, protocol: 'TCP' }));
}
