/** deploy/grafana: what Grafana would load, and every query of every panel run by a real Prometheus over a cluster under load. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child, type Cluster, eventually, findBinary, freePort, startCluster, startProcess } from '@causeway/testkit';
import { DASHBOARDS, defaultTopology, type Panel, renderPrometheus } from '@causeway/topology';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { grafanaProblems } from './grafana-schema.ts';
import { ROOT } from './manifests.ts';
import { queryProblems, recordedNames } from './rules.ts';

interface GrafanaPanel {
  id: number;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  datasource: { uid: string };
  targets: { refId: string; expr: string; datasource: { uid: string } }[];
}

const dashboards = Object.entries(DASHBOARDS);
const json = (name: string): { uid: string; panels: GrafanaPanel[] } =>
  JSON.parse(readFileSync(join(ROOT, 'deploy/grafana/dashboards', `${name}.json`), 'utf8'));

describe.each(dashboards)('dashboard %s', (name, dashboard) => {
  test('names series and labels that processes export', () => {
    const problems = dashboard.panels.flatMap(({ queries }) => queries.flatMap(({ expr }) => queryProblems(expr)));
    expect(problems).toEqual([]);
    const shown = dashboard.panels.flatMap(({ queries }) => queries.map(({ legend }) => legend));
    expect(shown.filter((legend) => legend === '')).toEqual([]);
  });

  test('has panels beside each other, none over another, of the provisioned data source', () => {
    const { panels } = json(name);
    const source = parse(readFileSync(join(ROOT, 'deploy/grafana/provisioning/datasources/prometheus.yml'), 'utf8')) as {
      datasources: { uid: string }[];
    };
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const panel of panels) {
      expect(new Set(panel.targets.map(({ refId }) => refId)).size).toBe(panel.targets.length);
      for (const { datasource } of [panel, ...panel.targets]) expect(datasource.uid).toBe(source.datasources[0]?.uid);
      for (const other of panels.filter((candidate) => candidate !== panel)) {
        const [p, q] = [panel.gridPos, other.gridPos];
        expect(p.x < q.x + q.w && q.x < p.x + p.w && p.y < q.y + q.h && q.y < p.y + p.h, `${panel.title}, ${other.title}`).toBe(
          false,
        );
      }
    }
  });
});

test("every dashboard is what Grafana's schema takes, and a wrong one is found", () => {
  const all = dashboards.map(([name]) => json(name));
  expect(grafanaProblems(all)).toEqual([]);
  const changed = (edit: (panel: Record<string, unknown>) => void): object => {
    const copy = structuredClone(json('overview'));
    edit(copy.panels[0] as unknown as Record<string, unknown>);
    return copy;
  };
  expect(grafanaProblems([changed((panel) => (panel['gridPosition'] = {}))]).join()).toContain('gridPosition');
  expect(grafanaProblems([changed((panel) => (panel['options'] = { legend: { displayMode: 'lists' } }))])).not.toEqual([]);
});

test('no two dashboards share an id', () => {
  expect(new Set(dashboards.map(([, { uid }]) => uid)).size).toBe(dashboards.length);
});

describe('queries of the dashboards, against a Prometheus that scrapes a cluster under load', () => {
  const stack = new AsyncDisposableStack();
  let prometheus: string;
  let began: number;

  beforeAll(async () => {
    const folder = mkdtempSync(join(tmpdir(), 'causeway-prometheus-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    const monitoring = `127.0.0.1:${await freePort()}`;
    const cluster = stack.use(
      await startCluster({
        model: join(ROOT, 'models/tiny-moe'),
        modelName: 'tiny-moe',
        router: true,
        expert: 2,
        nats: { monitoring: false, extraConfig: `http: "${monitoring}"` },
        // Families whose storages differ, as in the built-in topology: KV is converted.
        env: { 'prefill-1': { CAUSEWAY_CHIP: 'nvidia' }, 'decode-1': { CAUSEWAY_CHIP: 'ascend' } },
        workerEnv: {
          CAUSEWAY_CHIP_EMULATED: 'on',
          CAUSEWAY_NATS_MONITORING_URL: `http://${monitoring}`,
          CAUSEWAY_EXPERT_HOT_COPIES: '1',
        },
      }),
    );
    const port = await freePort();
    writeFileSync(join(folder, 'prometheus.yml'), configuration(cluster));
    stack.use(
      new Child({
        command: findBinary('prometheus', 'prometheus'),
        args: [
          `--config.file=${folder}/prometheus.yml`,
          `--storage.tsdb.path=${folder}/data`,
          `--web.listen-address=127.0.0.1:${port}`,
        ],
      }),
    );
    prometheus = `http://127.0.0.1:${port}`;
    await eventually(async () => (await fetch(`${prometheus}/-/ready`)).ok, { what: 'Prometheus' });
    stack.use(
      startProcess({
        script: join(ROOT, 'services/load/src/main.ts'),
        env: { CAUSEWAY_LOAD_URL: `http://${cluster.router.http}`, CAUSEWAY_LOAD_RATE: '4', CAUSEWAY_LOAD_SEED: '7' },
      }),
    );
    began = Date.now() / 1000;
    const answered = async (): Promise<boolean> =>
      Number((await range('vllm:request_success_total')).flatMap(({ values }) => values).at(-1)?.[1] ?? 0) > 60;
    await eventually(answered, { timeoutMs: 120_000, intervalMs: 1000, what: 'answers to the load' });
    // A third shard joins: the experts are placed anew, under load.
    const epoch = async (): Promise<number> =>
      Number((await range('max(causeway_expert_placement_epoch)')).flatMap(({ values }) => values).at(-1)?.[1] ?? 0);
    const first = await epoch();
    await cluster.startWorker('expert', 'expert-3');
    await eventually(async () => (await epoch()) > first, { timeoutMs: 60_000, intervalMs: 500, what: 'another placement' });
    // Rules are evaluated every 15 s, each group in its turn.
    const recorded = async (): Promise<boolean> =>
      (await Promise.all(recordedNames().map(range))).every((series) => series.length > 0);
    await eventually(recorded, { timeoutMs: 90_000, intervalMs: 2000, what: 'a value of every recording rule' });
  }, 300_000);

  afterAll(() => stack.disposeAsync());

  /** The configuration that Compose has, with this cluster's addresses, scraped every second. */
  function configuration(cluster: Cluster): string {
    const config = parse(renderPrometheus(defaultTopology())) as {
      global: Record<string, string>;
      rule_files: string[];
      scrape_configs: { job_name: string; static_configs: { targets: string[]; labels: Record<string, string> }[] }[];
    };
    config.global = { scrape_interval: '1s', evaluation_interval: '1s' };
    config.rule_files = [join(ROOT, 'deploy/prometheus/rules/*.yml')];
    for (const job of config.scrape_configs) {
      const ofRole = cluster.workers.filter(({ role }) => role === job.job_name).map(({ observability }) => observability);
      const [first] = job.static_configs;
      if (first !== undefined) first.targets = job.job_name === 'router' ? [cluster.router.observability] : ofRole;
    }
    return stringify(config);
  }

  type Series = { metric: Record<string, string>; values: [number, string][] };

  async function range(expr: string): Promise<Series[]> {
    const end = Date.now() / 1000;
    const start = Math.max(began - 5, end - 300);
    const query = new URLSearchParams({
      query: expr.replaceAll('$__rate_interval', '10s'),
      start: String(start),
      end: String(end),
      step: '1',
    });
    const body = (await (await fetch(`${prometheus}/api/v1/query_range?${query}`)).json()) as {
      status: string;
      error?: string;
      data: { result: Series[] };
    };
    expect(body.status, body.error).toBe('success');
    return body.data.result;
  }

  const cases = dashboards.flatMap(([name, { panels }]) =>
    panels.map((panel): [string, Panel] => [`${name}: ${panel.title}`, panel]),
  );

  test.each(cases)('%s', async (_name, panel) => {
    for (const { expr, legend } of panel.queries) {
      const series = await range(expr);
      expect(series.length, expr).toBeGreaterThan(0);
      const numbers = series.map(({ values }) => values.map(([, value]) => Number(value)).filter(Number.isFinite));
      expect(numbers.flat().length, expr).toBeGreaterThan(0);
      // One of a panel's lines may rest; one at least moves.
      for (const label of [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, found]) => found ?? ''))
        expect(series[0]?.metric, expr).toHaveProperty(label);
    }
    if (panel.quiet === true) return;
    const moving = await Promise.all(
      panel.queries.map(async ({ expr }) =>
        (await range(expr)).some(
          ({ values }) => new Set(values.map(([, value]) => value).filter((value) => value !== 'NaN')).size > 1,
        ),
      ),
    );
    expect(moving, panel.title).toContain(true);
  });

  test('every recording rule has a value, and no alert fires', async () => {
    const body = (await (await fetch(`${prometheus}/api/v1/rules`)).json()) as {
      data: { groups: { rules: { name: string; type: string; health: string; state?: string; lastError?: string }[] }[] };
    };
    const rules = body.data.groups.flatMap((group) => group.rules);
    expect(rules.length).toBeGreaterThan(30);
    expect(rules.filter(({ health }) => health !== 'ok')).toEqual([]);
    for (const { name } of rules.filter(({ type }) => type === 'recording'))
      expect((await range(name)).length, name).toBeGreaterThan(0);
    expect(rules.filter(({ state }) => state === 'firing').map(({ name }) => name)).toEqual([]);
  });
});
