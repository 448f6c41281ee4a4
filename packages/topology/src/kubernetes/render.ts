/** All files under deploy/kubernetes, from a topology. */
import { CHIP_NAMES } from '@causeway/chips';
import { parse, stringify } from 'yaml';
import { renderNatsConfig } from '../nats-config.ts';
import type { ProcessSpec } from '../processes.ts';
import type { Topology } from '../schema.ts';
import { COMPONENT, MODEL_CONFIG, PART_OF, POD_PORTS, SECRET } from './names.ts';
import { networkPolicies } from './network-policies.ts';
import { DEVICES, devicePatch, fetchPatch, localPatches } from './overlays.ts';
import { modelName, podNames, type PodPool, podPools } from './pools.ts';
import { modelManifests, natsManifests, redisManifests } from './servers.ts';
import { poolManifests, SCALING_METRICS } from './workloads.ts';

const HEADER = '# Made from a topology by `./causeway compose`; do not edit. CI checks that it is up to date.\n';
const CURL_IMAGE = 'curlimages/curl:8.11.1';
/** Pools that `islands` adds or binds: prefill on the first family, decode on the others. */
const PREFILL_CHIP = 'nvidia';
const DECODE_CHIP = 'ascend';
const EXTRA_DECODE_CHIP = 'cambricon';

/**
 * Contents by path below deploy/kubernetes.
 * @param rules files of Prometheus rules by name, which the Prometheus operator takes as a PrometheusRule
 */
export function renderKubernetes(topology: Topology, rules: ReadonlyMap<string, string> = new Map()): Map<string, string> {
  const pools = podPools(topology);
  const base: [string, readonly object[]][] = [
    ['service-accounts.yaml', serviceAccounts(pools)],
    ['nats.yaml', natsManifests()],
    ['redis.yaml', redisManifests()],
    ['model.yaml', modelManifests()],
    ...pools.map((pool): [string, readonly object[]] => [`${pool.name}.yaml`, poolManifests(pool, topology)]),
    ['network-policies.yaml', networkPolicies(pools, topology)],
    ['pod-monitors.yaml', podMonitors(pools)],
    ...(rules.size === 0 ? [] : [['prometheus-rules.yaml', prometheusRules(rules)] satisfies [string, readonly object[]]]),
  ];
  const files = new Map(base.map(([name, manifests]) => [`base/${name}`, documents(manifests)]));
  files.set('base/nats.conf', natsConf(topology, pools));
  files.set(
    'base/kustomization.yaml',
    documents([
      {
        apiVersion: 'kustomize.config.k8s.io/v1beta1',
        kind: 'Kustomization',
        resources: base.map(([name]) => name),
        configMapGenerator: [
          { name: 'nats-config', files: ['nats.conf'] },
          { name: MODEL_CONFIG, literals: [`CAUSEWAY_MODEL_NAME=${modelName(topology)}`] },
        ],
      },
    ]),
  );
  files.set('prometheus-adapter/values.yaml', documents([adapterValues()]));
  for (const [path, text] of [...local(pools), ...islands(topology, pools)]) files.set(path, text);
  return files;
}

function local(pools: readonly PodPool[]): [string, string][] {
  return [
    [
      'overlays/local/kustomization.yaml',
      documents([
        overlay({ patches: [{ path: 'one-node.yaml' }], images: [{ name: 'causeway', newName: 'causeway', newTag: 'local' }] }),
      ]),
    ],
    ['overlays/local/one-node.yaml', documents(localPatches(pools))],
  ];
}

function islands(topology: Topology, pools: readonly PodPool[]): [string, string][] {
  const chips = new Map<PodPool, string>();
  for (const pool of pools) {
    if (pool.role === 'prefill') chips.set(pool, PREFILL_CHIP);
    if (pool.role === 'decode') chips.set(pool, DECODE_CHIP);
  }
  const decode = pools.find(({ role }) => role === 'decode');
  // A second decode pool on a third family.
  const extra = decode === undefined ? [] : [{ ...decode, name: `${decode.name}-${EXTRA_DECODE_CHIP}` }];
  for (const pool of extra) chips.set(pool, EXTRA_DECODE_CHIP);
  const patches = [...chips].map(([pool, chip]) => {
    const devices = DEVICES[chip];
    if (devices === undefined) throw new Error(`no device plug-in is known for ${chip}`);
    // Workers compute on their nodes' CPUs: a family that this release has keeps KV in its own form, others are only placed.
    return devicePatch(
      pool,
      devices,
      (CHIP_NAMES as readonly string[]).includes(chip) ? { CAUSEWAY_CHIP: chip, CAUSEWAY_CHIP_EMULATED: 'on' } : {},
    );
  });
  return [
    [
      'overlays/islands/kustomization.yaml',
      documents([
        overlay({
          resources: ['../../base', ...extra.map(({ name }) => `${name}.yaml`)],
          configMapGenerator: [
            { name: 'nats-config', behavior: 'replace', files: ['nats.conf'] },
            { name: MODEL_CONFIG, behavior: 'merge', envs: ['model.env'] },
          ],
          patches: [{ path: 'devices.yaml' }, { path: 'fetch-model.yaml' }],
          images: [{ name: 'causeway', newName: 'causeway', newTag: '0.1.0' }],
        }),
      ]),
    ],
    ...extra.map((pool): [string, string] => [`overlays/islands/${pool.name}.yaml`, documents(poolManifests(pool, topology))]),
    ['overlays/islands/nats.conf', natsConf(topology, [...pools, ...extra])],
    ['overlays/islands/devices.yaml', documents(patches)],
    ['overlays/islands/fetch-model.yaml', documents([fetchPatch(CURL_IMAGE)])],
  ];
}

function overlay(fields: { resources?: string[]; [field: string]: unknown }): object {
  return {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    namespace: 'causeway',
    resources: ['../../base'],
    // Not in the repository: `./causeway compose` makes it, with new passwords.
    secretGenerator: [{ name: SECRET, envs: ['secrets.env'] }],
    ...fields,
  };
}

function serviceAccounts(pools: readonly PodPool[]): object[] {
  return [...new Set([...pools.map(({ role }) => role), 'nats', 'redis', 'model'])].map((component) => ({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: `causeway-${component}`, labels: { [PART_OF]: 'causeway', [COMPONENT]: component } },
    automountServiceAccountToken: false,
  }));
}

/** The Prometheus operator's; one for each role, so that `job` is the role as in Compose. */
function podMonitors(pools: readonly PodPool[]): object[] {
  return [...new Set(pools.map(({ role }) => role))].map((role) => ({
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PodMonitor',
    metadata: { name: `causeway-${role}`, labels: { [PART_OF]: 'causeway', [COMPONENT]: role } },
    spec: {
      selector: { matchLabels: { [PART_OF]: 'causeway', [COMPONENT]: role } },
      podMetricsEndpoints: [
        {
          port: 'observability',
          path: '/metrics',
          interval: '15s',
          relabelings: [
            { targetLabel: 'job', replacement: role },
            { sourceLabels: ['__meta_kubernetes_pod_label_app_kubernetes_io_name'], targetLabel: 'pool' },
          ],
        },
      ],
    },
  }));
}

function prometheusRules(rules: ReadonlyMap<string, string>): object[] {
  return [...rules].map(([name, text]) => ({
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: `causeway-${name.replace(/\.yml$/, '')}`, labels: { [PART_OF]: 'causeway' } },
    spec: parse(text) as object,
  }));
}

function natsConf(topology: Topology, pools: readonly PodPool[]): string {
  const specs = pools.flatMap((pool) =>
    podNames(pool).map((name): ProcessSpec => ({ name, role: pool.role, pool: pool.name, entry: pool.entry, env: {} })),
  );
  return (
    HEADER +
    renderNatsConfig(topology, specs, {
      listen: `0.0.0.0:${POD_PORTS.nats}`,
      http: `0.0.0.0:${POD_PORTS.monitoring}`,
      password: () => '$CAUSEWAY_NATS_PASSWORD',
    })
  );
}

/** Values of the prometheus-adapter chart: where the autoscalers' metrics come from. */
function adapterValues(): object {
  const metrics = Object.values(SCALING_METRICS).flatMap((list) => list ?? []);
  const resources = { overrides: { namespace: { resource: 'namespace' }, pod: { resource: 'pod' } } };
  return {
    rules: {
      default: false,
      custom: metrics
        .filter(({ of }) => of === 'pod')
        .map(({ name, series }) => ({
          seriesQuery: `{__name__="${series}",namespace!="",pod!=""}`,
          resources,
          name: { as: name },
          metricsQuery: 'avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)',
        })),
      external: metrics
        .filter(({ of }) => of === 'cluster')
        .map(({ name, series }) => ({
          seriesQuery: `{__name__="${series}"}`,
          resources: { namespaced: false },
          name: { as: name },
          metricsQuery: 'max(<<.Series>>)',
        })),
    },
  };
}

function documents(values: readonly object[]): string {
  return (
    HEADER + values.map((value) => stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false })).join('---\n')
  );
}
