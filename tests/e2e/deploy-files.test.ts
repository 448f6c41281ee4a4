/** Files under deploy/ say what the code does: metric names, ports, processes. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { METRICS } from '@causeway/telemetry';
import { defaultTopology, renderCompose, renderPrometheus } from '@causeway/topology';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

const root = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(resolve(root, path), 'utf8');

interface Dashboard {
  panels: { title: string; gridPos: { x: number; y: number; w: number; h: number }; targets: { expr: string }[] }[];
}

describe('the Grafana dashboard', () => {
  const { panels } = JSON.parse(read('deploy/grafana/dashboards/causeway.json')) as Dashboard;

  test('every query names metrics and labels that processes export', () => {
    const known = new Map<string, readonly string[]>();
    for (const metric of Object.values(METRICS)) {
      const suffixes = metric.kind === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
      for (const suffix of suffixes) known.set(metric.name + suffix, [...metric.labels, 'le', 'instance', 'job']);
    }
    const expressions = panels.flatMap((panel) => panel.targets.map((target) => target.expr));
    expect(expressions.length).toBeGreaterThan(20);
    for (const expr of expressions) {
      const names = expr.match(/(?:vllm:|causeway_)\w+/g) ?? [];
      expect(names, expr).not.toEqual([]);
      for (const name of names) expect([...known.keys()], expr).toContain(name);
      for (const [, labels] of expr.matchAll(/by \(([^)]*)\)/g)) {
        for (const label of (labels ?? '').split(',')) expect(known.get(names[0] ?? ''), expr).toContain(label.trim());
      }
    }
  });

  test('panels stand beside each other, none over another', () => {
    for (const a of panels) {
      for (const b of panels) {
        if (a === b) continue;
        const [p, q] = [a.gridPos, b.gridPos];
        const overlap = p.x < q.x + q.w && q.x < p.x + p.w && p.y < q.y + q.h && q.y < p.y + p.h;
        expect(overlap, `${a.title} and ${b.title}`).toBe(false);
      }
    }
  });
});

interface Compose {
  services: Record<string, { command?: string[]; environment?: Record<string, string>; depends_on?: string[] }>;
}

describe('docker-compose.yml', () => {
  test('runs NATS, Redis, every process of the topology, Prometheus and Grafana', () => {
    const { services } = parse(renderCompose(defaultTopology())) as Compose;
    expect(Object.keys(services)).toEqual([
      'nats',
      'redis',
      'router',
      'prefill',
      'decode',
      'expert-0',
      'expert-1',
      'prometheus',
      'grafana',
    ]);
    for (const name of ['router', 'prefill', 'decode']) {
      expect(services[name]?.command).toEqual([`services/${name}/src/main.ts`]);
      expect(services[name]?.environment).toMatchObject({
        CAUSEWAY_NATS_URL: 'nats://nats:4222',
        CAUSEWAY_REDIS_URL: 'redis://redis:6379',
        CAUSEWAY_HOST: '0.0.0.0',
        CAUSEWAY_ADVERTISE_HOST: name,
        CAUSEWAY_OBSERVABILITY_PORT: '9100',
      });
    }
  });

  test('Prometheus scrapes every process', () => {
    const config = parse(renderPrometheus(defaultTopology())) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    const targets = config.scrape_configs.flatMap((job) => job.static_configs.flatMap((entry) => entry.targets));
    expect(targets).toEqual(['router:9100', 'prefill:9100', 'decode:9100', 'expert-0:9100', 'expert-1:9100']);
  });
});
