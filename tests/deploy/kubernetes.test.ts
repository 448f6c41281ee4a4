/** deploy/kubernetes: rendered by kubectl, checked against the published schemas, against each other, and against the code. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { METRICS } from '@causeway/telemetry';
import { defaultTopology, parseTopology, renderKubernetes, SCALING_METRICS, SECRET_KEYS } from '@causeway/topology';
import { workerConfig } from '@causeway/worker-runtime';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { expertConfig } from '../../services/expert/src/config.ts';
import { routerConfig } from '../../services/router/src/config.ts';
import {
  kinds,
  kubectlPossible,
  kustomize,
  type Manifest,
  parseManifests,
  ROOT,
  schemaProblems,
  SECRETS,
  unknownFields,
} from './manifests.ts';
import { recordedNames } from './rules.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** Every manifest of the base, as files. */
const ruleFiles = new Map(['alerts.yml', 'recording.yml'].map((name) => [name, read(`deploy/prometheus/rules/${name}`)]));
const base: Manifest[] = [...renderKubernetes(defaultTopology(), ruleFiles)]
  .filter(([name]) => name.startsWith('base/') && name.endsWith('.yaml') && !name.endsWith('kustomization.yaml'))
  .flatMap(([, text]) => parseManifests(text));

// What is rendered: the base's files always, the overlays where there is a kubectl.
const overlays = ['local', 'islands'] as const;
const rendered = new Map<string, Manifest[]>([
  ['base', base],
  ...(kubectlPossible() ? overlays.map((name): [string, Manifest[]] => [name, kustomize(name).manifests]) : []),
]);

const WORKLOADS = ['Deployment', 'StatefulSet', 'Job'];

interface Container {
  name: string;
  args?: string[];
  env?: { name: string; value?: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[];
  ports?: { name: string; containerPort: number }[];
  resources: { requests?: Record<string, string>; limits?: Record<string, string> };
  [field: string]: unknown;
}

function containers(workload: Manifest): Container[] {
  const pod = workload.spec.template.spec as { containers: Container[]; initContainers?: Container[] };
  return [...(pod.initContainers ?? []), ...pod.containers];
}

const podLabels = (workload: Manifest): Record<string, string> => workload.spec.template.metadata.labels;

interface Selector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values: string[] }[];
}

function selects(selector: Selector, labels: Record<string, string>): boolean {
  return (
    Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value) &&
    (selector.matchExpressions ?? []).every(
      ({ key, operator, values }) => operator === 'In' && values.includes(labels[key] ?? ''),
    )
  );
}

describe.each([...rendered])('kubernetes %s', (name, manifests) => {
  const workloads = kinds(manifests, ...WORKLOADS);
  const ours = workloads.filter((workload) => containers(workload).some(({ args }) => args?.[0]?.startsWith('services/')));

  test('is what the published schemas accept, with no field that they do not know', async () => {
    expect(manifests.length).toBeGreaterThan(25);
    expect(await schemaProblems(manifests)).toEqual([]);
    expect(unknownFields(manifests)).toEqual([]);
  });

  test('has every selector, reference and port select something', () => {
    const pods = workloads.map((workload) => ({ labels: podLabels(workload), containers: containers(workload) }));
    const matching = (selector: Selector): typeof pods => pods.filter(({ labels }) => selects(selector, labels));
    for (const service of kinds(manifests, 'Service')) {
      const found = matching({ matchLabels: service.spec.selector });
      expect(found, `Service ${service.metadata.name}`).toHaveLength(1);
      const ports = found[0]?.containers.flatMap((container) => container.ports ?? []) ?? [];
      for (const { targetPort, port } of service.spec.ports as { targetPort: string; port: number }[]) {
        expect(ports).toContainEqual({ name: targetPort, containerPort: port });
      }
    }
    for (const workload of kinds(manifests, 'Deployment', 'StatefulSet')) {
      expect(matching(workload.spec.selector), workload.metadata.name).toHaveLength(1);
      expect(selects(workload.spec.selector, podLabels(workload))).toBe(true);
    }
    for (const { kind, metadata, spec } of kinds(manifests, 'PodDisruptionBudget', 'PodMonitor')) {
      expect(matching(spec.selector).length, `${kind} ${metadata.name}`).toBeGreaterThan(0);
    }
    for (const policy of kinds(manifests, 'NetworkPolicy')) {
      expect(matching(policy.spec.podSelector).length, policy.metadata.name).toBeGreaterThan(0);
      for (const rule of [...(policy.spec.ingress ?? []), ...(policy.spec.egress ?? [])]) {
        for (const peer of [...(rule.from ?? []), ...(rule.to ?? [])]) {
          // Prometheus is the user's, in a namespace of its own.
          if (peer.namespaceSelector === undefined)
            expect(matching(peer.podSelector).length, policy.metadata.name).toBeGreaterThan(0);
        }
      }
    }
    for (const { spec, metadata } of kinds(manifests, 'HorizontalPodAutoscaler')) {
      const target = manifests.find(
        ({ kind, metadata: m }) => kind === spec.scaleTargetRef.kind && m.name === spec.scaleTargetRef.name,
      );
      expect(target, metadata.name).toBeDefined();
      expect(spec.minReplicas).toBe(target?.spec.replicas);
    }
    const accounts = kinds(manifests, 'ServiceAccount').map(({ metadata }) => metadata.name);
    for (const workload of workloads) expect(accounts).toContain(workload.spec.template.spec.serviceAccountName);
    expect(
      accounts.filter((account) => !workloads.some(({ spec }) => spec.template.spec.serviceAccountName === account)),
    ).toEqual([]);
  });

  test('lets each kind of pod reach what it needs and no more: routers not NATS, the front neither NATS nor Redis', () => {
    const pods = Object.fromEntries(workloads.map((workload) => [workload.metadata.name, podLabels(workload)]));
    const policies = kinds(manifests, 'NetworkPolicy');
    interface Rule {
      from?: { podSelector: Selector; namespaceSelector?: object }[];
      to?: { podSelector: Selector }[];
      ports: { port: number }[];
    }
    const allowed = (from: Record<string, string> | undefined, to: Record<string, string>, port: number): boolean => {
      const admits = (
        labels: Record<string, string>,
        side: 'ingress' | 'egress',
        peer: Record<string, string> | undefined,
      ): boolean => {
        const about = policies.filter(({ spec }) => selects(spec.podSelector, labels));
        expect(about.length).toBeGreaterThan(0);
        return about.some(({ spec }) =>
          ((spec[side] ?? []) as Rule[]).some((rule) => {
            const peers = side === 'ingress' ? rule.from : rule.to;
            const open =
              peers === undefined || (peer !== undefined && peers.some(({ podSelector }) => selects(podSelector, peer)));
            return open && rule.ports.some((entry) => entry.port === port);
          }),
        );
      };
      return admits(to, 'ingress', from) && (from === undefined || admits(from, 'egress', to));
    };
    const { router = {}, prefill = {}, decode = {}, expert = {}, nats = {}, redis = {} } = pods;
    expect(allowed(undefined, router, 8000)).toBe(true);
    expect(allowed(undefined, router, 50_051)).toBe(true);
    for (const worker of [prefill, decode]) {
      expect(allowed(router, worker, 50_061)).toBe(true);
      expect(allowed(worker, nats, 4222)).toBe(true);
      expect(allowed(worker, redis, 6379)).toBe(true);
      expect(allowed(undefined, worker, 50_061)).toBe(false);
      expect(allowed(worker, expert, 50_061)).toBe(true);
      expect(allowed(expert, worker, 50_061)).toBe(false);
    }
    expect(allowed(expert, redis, 6379)).toBe(true);
    expect(allowed(expert, nats, 4222)).toBe(false);
    for (const from of [router, undefined]) expect(allowed(from, expert, 50_061)).toBe(false);
    expect(allowed(router, redis, 6379)).toBe(true);
    expect(allowed(router, nats, 4222)).toBe(false);
    expect(allowed(undefined, nats, 4222)).toBe(false);
    expect(allowed(undefined, redis, 6379)).toBe(false);
    const prometheus = { 'app.kubernetes.io/name': 'prometheus' };
    for (const target of [router, prefill, decode, expert]) {
      const open = policies.some(
        ({ spec }) =>
          selects(spec.podSelector, target) &&
          ((spec.ingress ?? []) as Rule[]).some(
            ({ from, ports }) =>
              from?.some(({ podSelector }) => selects(podSelector, prometheus)) && ports.some(({ port }) => port === 9100),
          ),
      );
      expect(open).toBe(true);
    }
  });

  test('gives services only variables that they read, every one that they must have, and ports that they open', () => {
    expect(ours.length).toBeGreaterThanOrEqual(4);
    for (const workload of ours) {
      const container = containers(workload).find(({ args }) => args !== undefined);
      const router = container?.name === 'router';
      const fields = Object.values({ router: routerConfig, expert: expertConfig }[container?.name ?? ''] ?? workerConfig);
      const env = new Map((container?.env ?? []).map((entry) => [entry.name, entry.value]));
      const known = new Set([...fields.map((field) => field.env), 'UV_THREADPOOL_SIZE']);
      expect(
        [...env.keys()].filter((key) => !known.has(key)),
        workload.metadata.name,
      ).toEqual([]);
      const required = fields.filter((field) => field.default === undefined && !('optional' in field && field.optional));
      for (const field of required) expect(env.has(field.env), `${workload.metadata.name} ${field.env}`).toBe(true);
      const opened = router
        ? [env.get('CAUSEWAY_HTTP_PORT'), env.get('CAUSEWAY_GRPC_PORT'), env.get('CAUSEWAY_OBSERVABILITY_PORT')]
        : [env.get('CAUSEWAY_RPC_PORT'), env.get('CAUSEWAY_OBSERVABILITY_PORT')];
      expect(container?.ports?.map(({ containerPort }) => String(containerPort))).toEqual(opened);
      expect(env.get('CAUSEWAY_HOST')).toBe('0.0.0.0');
      // preStop, drain and unwinding fit in what Kubernetes waits.
      const preStop = Number(
        (container as { lifecycle?: { preStop: { exec: { command: string[] } } } }).lifecycle?.preStop.exec.command[1],
      );
      const drain = Number(env.get('CAUSEWAY_DRAIN_MS')) / 1000;
      expect(workload.spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(preStop + drain + 5);
    }
  });

  test('takes secrets from the Secret, whose keys an overlay must have, and writes none down', () => {
    const references = workloads
      .flatMap(containers)
      .flatMap(({ env }) => (env ?? []).flatMap(({ valueFrom }) => valueFrom?.secretKeyRef ?? []));
    const keys = new Set(references.map(({ key }) => key));
    expect([...keys].toSorted()).toEqual([...SECRET_KEYS].toSorted());
    if (name === 'base') return;
    const secrets = manifests.filter(({ kind }) => kind === 'Secret');
    expect(secrets).toHaveLength(1);
    expect(new Set(references.map((reference) => reference.name))).toEqual(new Set([secrets[0]?.metadata.name]));
    expect(Object.keys(secrets[0]?.data ?? {}).toSorted()).toEqual([...SECRET_KEYS].toSorted());
    expect(manifests.every(({ metadata }) => metadata.namespace === 'causeway')).toBe(true);
    for (const manifest of manifests.filter(({ kind }) => kind !== 'Secret')) {
      for (const secret of Object.values(SECRETS).filter(Boolean)) expect(JSON.stringify(manifest)).not.toContain(secret);
    }
  });

  test('runs every container without rights, read-only, with limits', () => {
    for (const workload of workloads) {
      expect(workload.spec.template.spec.securityContext).toMatchObject({ runAsNonRoot: true });
      expect(workload.spec.template.spec.automountServiceAccountToken).toBe(false);
      for (const container of containers(workload)) {
        expect(container.securityContext).toMatchObject({
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
        });
        expect(container.resources.limits, container.name).toHaveProperty('memory');
      }
    }
  });

  test('has NATS know every worker pod up to what its autoscaler may start', () => {
    const conf =
      name === 'base'
        ? read('deploy/kubernetes/base/nats.conf')
        : (manifests.find(({ data }) => data?.['nats.conf'])?.data?.['nats.conf'] ?? '');
    const users = [...conf.matchAll(/user: "([^"]+)"/g)].map((match) => match[1]);
    const workers = kinds(manifests, 'StatefulSet').filter((set) => podLabels(set)['app.kubernetes.io/component'] !== 'expert');
    const scaled = workers.flatMap(({ metadata }) => {
      const max = kinds(manifests, 'HorizontalPodAutoscaler').find((scaler) => scaler.metadata.name === metadata.name)?.spec
        .maxReplicas as number;
      return Array.from({ length: max }, (_, index) => `${metadata.name}-${index}`);
    });
    expect(new Set(users)).toEqual(new Set(scaled));
  });
});

describe('kubernetes autoscalers', () => {
  test('go by metrics that processes export or rules record, and that the adapter serves', () => {
    const adapter = parse(read('deploy/kubernetes/prometheus-adapter/values.yaml')) as {
      rules: Record<'custom' | 'external', { seriesQuery: string; name: { as: string } }[]>;
    };
    const served = [...adapter.rules.custom, ...adapter.rules.external].map(({ name }) => name.as);
    const exported: string[] = [...Object.values(METRICS).map((metric) => metric.name), ...recordedNames()];
    const scaled = kinds(base, 'HorizontalPodAutoscaler').flatMap(
      ({ spec }) => spec.metrics as { pods?: { metric: { name: string } }; external?: { metric: { name: string } } }[],
    );
    for (const { pods, external } of scaled) {
      const wanted = (pods ?? external)?.metric.name;
      if (wanted !== undefined) expect(served).toContain(wanted);
    }
    for (const { series } of Object.values(SCALING_METRICS).flatMap((list) => list ?? [])) expect(exported).toContain(series);
    expect(scaled.filter(({ pods, external }) => pods ?? external)).toHaveLength(3);
  });
});

test('the rules reach the Prometheus operator as they are', () => {
  const groups = kinds(base, 'PrometheusRule').map(({ spec }) => spec as unknown);
  expect(groups).toEqual([...ruleFiles.values()].map((text) => parse(text) as unknown));
});

describe.skipIf(!kubectlPossible())('kubectl kustomize', () => {
  test('of an overlay without its secrets fails and names the file', () => {
    const { status, stderr } = kustomize('local', false);
    expect(status).not.toBe(0);
    expect(stderr).toContain('secrets.env');
  });

  test('islands binds each pool to the devices of its chip family', () => {
    const manifests = rendered.get('islands') ?? [];
    const of = Object.fromEntries(
      kinds(manifests, 'StatefulSet').map(({ metadata, spec }) => [metadata.name, spec.template.spec]),
    );
    expect(Object.keys(of).toSorted()).toEqual(['decode', 'decode-cambricon', 'expert', 'prefill']);
    for (const [pool, resource] of [
      ['prefill', 'nvidia.com/gpu'],
      ['decode', 'huawei.com/Ascend910'],
      ['decode-cambricon', 'cambricon.com/mlu'],
    ] as const) {
      expect(of[pool].nodeSelector).toBeDefined();
      expect(of[pool].tolerations).toEqual([{ key: resource, operator: 'Exists', effect: 'NoSchedule' }]);
      expect(of[pool].containers[0].resources.limits).toMatchObject({ [resource]: '1', memory: expect.any(String) });
    }
  });
});

test('a wrong manifest is found: a misspelt field, a wrong type', async () => {
  const [deployment] = kinds(base, 'Deployment');
  const misspelt = structuredClone(deployment) as Manifest;
  misspelt.spec.template.spec.containers[0].livenesProbe = {};
  expect(unknownFields([misspelt]).join()).toContain('livenesProbe');
  const wrong = structuredClone(deployment) as Manifest;
  wrong.spec.replicas = 'two';
  expect((await schemaProblems([wrong])).join()).toContain('replicas');
});

test('another topology has other pools, and processes that differ in more than their name are refused', () => {
  const files = renderKubernetes(
    parseTopology(
      'version: 1\nmodel: tiny-moe\npools:\n  - {name: d, role: decode, count: 3, kvBudget: 1GiB, threads: 4}\n  - {name: p, role: prefill}',
      't.yaml',
    ),
  );
  const [set] = kinds(parseManifests(files.get('base/d.yaml') ?? ''), 'StatefulSet');
  expect(set?.spec.replicas).toBe(3);
  expect(set?.spec.template.spec.containers[0].resources.requests).toEqual({ cpu: '4', memory: '3072Mi' });
  expect(files.get('base/nats.conf')).toContain('user: "d-5"');
});

describe('the Job that fetches a model', () => {
  const fetchScript = (): string => {
    const [job] = parseManifests(read('deploy/kubernetes/overlays/islands/fetch-model.yaml'));
    return job?.spec.template.spec.containers[0].command[3] as string;
  };

  async function runJob(
    folder: string,
    url: string,
    env: Record<string, string>,
  ): Promise<{ code: number | null; output: string }> {
    const child = spawn('sh', ['-eu', '-c', fetchScript()], {
      env: { PATH: process.env['PATH'] ?? '', MODEL_DIR: folder, MODEL_URL: url, ...env },
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
    return new Promise((done) => child.once('exit', (code) => done({ code, output })));
  }

  test('goes on where a download was cut, says what is missing, and marks only a whole model', async () => {
    const body = 'x'.repeat(200_000);
    const ranges: (string | undefined)[] = [];
    let cut = true;
    const server = createServer((request, response) => {
      if (request.url === '/m/config.json') return void response.end('{}');
      if (request.url !== '/m/model.bin') return void response.writeHead(404).end();
      ranges.push(request.headers.range);
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const headers = {
        'content-length': body.length - from,
        ...(from > 0 ? { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` } : {}),
      };
      response.writeHead(from > 0 ? 206 : 200, headers);
      if (!cut) return void response.end(body.slice(from));
      cut = false;
      response.write(body.slice(0, 100_000));
      setTimeout(() => response.destroy(), 100);
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/m`;
    const folder = mkdtempSync(join(tmpdir(), 'causeway-model-'));
    try {
      const missing = await runJob(folder, url, { MODEL_FILES: 'config.json nothing.json' });
      expect(missing.code).not.toBe(0);
      expect(missing.output).toContain('nothing.json');
      expect(readdirSync(folder)).not.toContain('.complete');

      const whole = await runJob(folder, url, { MODEL_FILES: 'config.json model.bin' });
      expect(whole, whole.output).toMatchObject({ code: 0 });
      expect(readFileSync(join(folder, 'model.bin'), 'utf8')).toBe(body);
      expect(ranges.length).toBeGreaterThan(1);
      expect(readdirSync(folder).toSorted()).toEqual(['.complete', 'config.json', 'model.bin']);

      rmSync(join(folder, '.complete'));
      const wrong = await runJob(folder, url, { MODEL_FILES: 'config.json', MODEL_SHA256: `${'0'.repeat(64)}  config.json` });
      expect(wrong.code).toBe(1);
      expect(readdirSync(folder)).not.toContain('.complete');
    } finally {
      server.closeAllConnections();
      server.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
