/** What is rendered from a topology says what the code does: ports, processes. Manifests, rules and dashboards: tests/deploy. */
import { defaultTopology, parseTopology, renderCompose, renderPrometheus } from '@causeway/topology';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

interface Compose {
  services: Record<
    string,
    {
      command?: string[];
      environment?: Record<string, string>;
      depends_on?: string[] | object;
      volumes?: string[];
      cpus?: string;
      cpu_quota?: number;
      cpuset?: string;
      networks?: string[];
      healthcheck?: object;
    }
  >;
}

const WORKERS = ['prefill-0', 'prefill-1', 'decode-0', 'decode-1'];
const SHARDS = ['expert-0', 'expert-1'];

describe('docker-compose.yml', () => {
  test('runs NATS, Redis, every process of the topology, Prometheus and Grafana', () => {
    const { services } = parse(renderCompose(defaultTopology())) as Compose;
    expect(Object.keys(services)).toEqual([
      'nats',
      'redis',
      'router',
      ...WORKERS,
      ...SHARDS,
      'prometheus',
      'grafana',
      'load',
      'jaeger',
    ]);
    for (const name of ['router', ...WORKERS, ...SHARDS]) {
      expect(services[name]?.command).toEqual([`services/${name.replace(/-\d$/, '')}/src/main.ts`]);
      expect(services[name]?.environment).toMatchObject({
        ...(name === 'router' ? {} : { CAUSEWAY_ADVERTISE_HOST: name }),
        ...(WORKERS.includes(name) ? { CAUSEWAY_NATS_URL: 'nats://nats:4222', CAUSEWAY_EXPERTS: 'remote' } : {}),
        CAUSEWAY_HOST: '0.0.0.0',
        CAUSEWAY_OBSERVABILITY_PORT: '9100',
      });
    }
    expect(services['prefill-0']?.environment).toMatchObject({ CAUSEWAY_CHIP: 'nvidia', CAUSEWAY_CHIP_EMULATED: 'on' });
    expect(services['decode-1']?.environment).toMatchObject({ CAUSEWAY_CHIP: 'ascend', CAUSEWAY_CHIP_EMULATED: 'on' });
  });

  test('starts shards before workers, workers before the router; shards know neither NATS nor its plane', () => {
    const { services } = parse(renderCompose(defaultTopology())) as Compose;
    const after = (name: string): string[] => Object.keys(services[name]?.depends_on ?? {});
    for (const name of SHARDS) {
      expect(after(name)).toEqual(['redis']);
      expect(services[name]?.networks).toEqual(['control']);
      expect(Object.keys(services[name]?.environment ?? {}).filter((key) => key.includes('NATS'))).toEqual([]);
    }
    for (const name of WORKERS) expect(after(name)).toEqual(['nats', 'redis', ...SHARDS]);
    expect(after('router')).toEqual(['redis', ...WORKERS]);
  });

  test('gives every container a health check, limits, a read-only root and a user without rights', () => {
    const { services } = parse(renderCompose(defaultTopology())) as Compose;
    for (const [name, service] of Object.entries(services)) {
      expect(service, name).toMatchObject({ read_only: true, cap_drop: ['ALL'], pids_limit: 512, mem_limit: expect.any(String) });
      // Jaeger's image has nothing to ask with.
      if (name !== 'jaeger') expect(service.healthcheck, name).toBeDefined();
    }
  });

  test('bounds processors: by quota where threads are known, by cores, else by the environment', () => {
    const text = [
      'version: 1',
      'pools:',
      '  - {name: r, role: router, chatTemplate: /t/chat.jinja}',
      '  - {name: p, role: prefill, threads: 3}',
      '  - {name: d, role: decode, cores: 2-3}',
      '  - {name: a, role: decode, threads: auto}',
    ].join('\n');
    const { services } = parse(renderCompose(parseTopology(text, 't.yaml'))) as Compose;
    const of = (name: string): object => {
      const { cpus, cpu_quota, cpuset, environment } = services[name] ?? {};
      return { cpus, cpu_quota, cpuset, threads: environment?.['CAUSEWAY_THREADS'] };
    };
    expect(of('p')).toEqual({ cpu_quota: 400_000, threads: '3' });
    expect(of('d')).toEqual({ cpuset: '2,3', threads: '2' });
    expect(of('a')).toEqual({ cpus: '${CAUSEWAY_DECODE_CPUS:-0}', threads: '${CAUSEWAY_DECODE_THREADS:-1}' });
    for (const name of ['nats', 'redis', 'r', 'prometheus', 'grafana', 'load', 'jaeger'])
      expect(services[name]?.cpu_quota, name).toBeGreaterThanOrEqual(100_000);
  });

  test('mounts the chat template of the topology in routers alone', () => {
    const text = 'version: 1\npools:\n  - {name: r, role: router, chatTemplate: /t/chat.jinja}\n  - {name: d, role: decode}';
    const { services } = parse(renderCompose(parseTopology(text, 't.yaml'))) as Compose;
    expect(services['r']?.volumes).toContain('/t/chat.jinja:/chat-template.jinja:ro');
    expect(services['r']?.environment).toMatchObject({ CAUSEWAY_CHAT_TEMPLATE: '/chat-template.jinja' });
    expect(services['d']?.volumes).toHaveLength(1);
    expect(services['d']?.environment).not.toHaveProperty('CAUSEWAY_CHAT_TEMPLATE');
  });

  test('Prometheus scrapes every process', () => {
    const config = parse(renderPrometheus(defaultTopology())) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    const targets = config.scrape_configs.flatMap((job) => job.static_configs.flatMap((entry) => entry.targets));
    expect(targets).toEqual(['router', ...WORKERS, ...SHARDS].map((name) => `${name}:9100`));
  });
});
