/** deploy/grafana: what Grafana would load, and every query of every panel run by a real Prometheus over a cluster under load. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DASHBOARDS, type Panel, type Query } from '@causeway/topology';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { failEverything } from './fail-everything.ts';
import { grafanaProblems } from './grafana-schema.ts';
import { ROOT } from './manifests.ts';
import { queryProblems } from './rules.ts';
import { startWatched, type Watched } from './watched-cluster.ts';

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
  let watched: Watched;

  beforeAll(async () => {
    watched = await startWatched(1);
  }, 300_000);
  afterAll(() => watched?.[Symbol.asyncDispose]());

  const cases = dashboards.flatMap(([name, { panels }]) =>
    panels.map((panel): [string, Panel] => [`${name}: ${panel.title}`, panel]),
  );

  /** Whether one of a query's series at least has had several values. */
  async function changes({ expr }: Query): Promise<boolean> {
    const series = await watched.range(expr);
    return series.some(({ values }) => new Set(values.map(([, value]) => value).filter((value) => value !== 'NaN')).size > 1);
  }

  /** A panel's queries that have had one value. */
  async function still({ queries }: Panel): Promise<string[]> {
    const moved = await Promise.all(queries.map(changes));
    return queries.filter((_, index) => moved[index] !== true).map(({ legend }) => legend);
  }

  test.each(cases)('%s', async (_name, panel) => {
    for (const { expr, legend } of panel.queries) {
      const series = await watched.range(expr);
      expect(series.length, expr).toBeGreaterThan(0);
      const numbers = series.map(({ values }) => values.map(([, value]) => Number(value)).filter(Number.isFinite));
      expect(numbers.flat().length, expr).toBeGreaterThan(0);
      for (const label of [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, found]) => found ?? ''))
        expect(series[0]?.metric, expr).toHaveProperty(label);
    }
    if (panel.quiet !== true) expect((await still(panel)).length, panel.title).toBeLessThan(panel.queries.length);
  });

  test('every recording rule has a value, and no alert fires', async () => {
    const rules = await watched.rules();
    expect(rules.length).toBeGreaterThan(30);
    expect(rules.filter(({ health }) => health !== 'ok')).toEqual([]);
    for (const { name } of rules.filter(({ type }) => type === 'recording'))
      expect((await watched.range(name)).length, name).toBeGreaterThan(0);
    expect(rules.filter(({ state }) => state === 'firing').map(({ name }) => name)).toEqual([]);
  });

  describe.skipIf(process.env['CAUSEWAY_TEST_FULL'] !== '1')('when things fail', () => {
    const quiet = cases.filter(([, { quiet: rests }]) => rests === true);

    beforeAll(async () => {
      await watched[Symbol.asyncDispose]();
      // Any shard but one may die.
      watched = await startWatched(2);
      await failEverything(watched, async () => (await Promise.all(quiet.map(([, panel]) => still(panel)))).flat().length === 0);
    }, 900_000);

    test.each(quiet)('%s', async (_name, panel) => {
      expect(await still(panel), panel.title).toEqual([]);
    });
  });
});
