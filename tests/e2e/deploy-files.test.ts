/** What is rendered from a topology says what the code does: ports, processes. Manifests, rules and dashboards: tests/deploy. */
import { defaultTopology, renderCompose, renderPrometheus } from '@causeway/topology';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

interface Compose {
  services: Record<string, { command?: string[]; environment?: Record<string, string>; depends_on?: string[] | object }>;
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
      'prometheus',
      'grafana',
      'load',
      'jaeger',
    ]);
    for (const name of ['router', 'prefill', 'decode']) {
      expect(services[name]?.command).toEqual([`services/${name}/src/main.ts`]);
      expect(services[name]?.environment).toMatchObject({
        ...(name === 'router' ? {} : { CAUSEWAY_NATS_URL: 'nats://nats:4222', CAUSEWAY_ADVERTISE_HOST: name }),
        CAUSEWAY_HOST: '0.0.0.0',
        CAUSEWAY_OBSERVABILITY_PORT: '9100',
      });
    }
  });

  test('Prometheus scrapes every process', () => {
    const config = parse(renderPrometheus(defaultTopology())) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    const targets = config.scrape_configs.flatMap((job) => job.static_configs.flatMap((entry) => entry.targets));
    expect(targets).toEqual(['router:9100', 'prefill:9100', 'decode:9100']);
  });
});
