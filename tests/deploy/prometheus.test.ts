/** deploy/prometheus: rules that promtool accepts and tests, and that name what processes export. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ERROR_REASONS } from '@causeway/errors';
import { findBinary } from '@causeway/testkit';
import { expect, test } from 'vitest';
import { ROOT } from './manifests.ts';
import { knownSeries, queryProblems, rules } from './rules.ts';

const FOLDER = join(ROOT, 'deploy/prometheus');
const promtool = (args: readonly string[]): string =>
  execFileSync(findBinary('promtool', 'prometheus'), args, { cwd: FOLDER, encoding: 'utf8', stdio: 'pipe' });

test('promtool accepts the configuration and the rules', () => {
  expect(promtool(['check', 'rules', 'rules/recording.yml', 'rules/alerts.yml'])).toContain('SUCCESS');
  // The configuration names its rules as they lie in the container.
  expect(promtool(['check', 'config', '--syntax-only', 'prometheus.yml'])).toContain('SUCCESS');
});

test('promtool test rules: what must fire does, what must not does not', () => {
  for (const file of readdirSync(join(FOLDER, 'tests')))
    expect(promtool(['test', 'rules', `tests/${file}`])).toContain('SUCCESS');
});

test('every alert fires, and every recording rule is computed, in those tests', () => {
  const text = readFileSync(join(FOLDER, 'tests/rules.test.yml'), 'utf8');
  for (const { alert } of rules('alerts.yml')) {
    const fired = new RegExp(`alertname: ${alert}\\n +exp_alerts:`);
    expect(text, alert).toMatch(fired);
  }
  const computed = new Set([...text.matchAll(/causeway:[\w:]+/g)].map(([name]) => name));
  // Of rules that differ by their window alone, one is computed and others are by the alerts.
  const windows = /^causeway:slo_errors:ratio(30m|1h)$/;
  const names = rules('recording.yml').flatMap(({ record }) => record ?? []);
  expect(names.filter((name) => !computed.has(name) && !windows.test(name))).toEqual([]);
});

test('every rule names series and labels that processes export', () => {
  const all = [...rules('recording.yml'), ...rules('alerts.yml')];
  expect(all.length).toBeGreaterThan(30);
  expect(all.flatMap(({ expr }) => queryProblems(expr))).toEqual([]);
  // And a wrong one is found.
  expect(queryProblems('sum by (colour) (rate(causeway_kv_outcome_total[5m]))', knownSeries())).toHaveLength(1);
  expect(queryProblems('causeway_no_such_total')).toHaveLength(1);
});

test('every reason of an error that a rule names is one', () => {
  for (const { expr } of [...rules('recording.yml'), ...rules('alerts.yml')]) {
    for (const [, list] of expr.matchAll(/causeway_router_requests_total\{outcome=~"([^"]+)"/g)) {
      for (const reason of (list ?? '').split('|').filter((word) => word !== 'ok'))
        expect(ERROR_REASONS as readonly string[]).toContain(reason);
    }
  }
});

test('every alert says what is wrong and links to its section of the runbook', () => {
  const headings = [...readFileSync(join(ROOT, 'docs/operations.md'), 'utf8').matchAll(/^#{2,4} (.+)$/gm)].map(([, text]) =>
    (text ?? '')
      .toLowerCase()
      .replaceAll(/[^a-z0-9 -]/g, '')
      .replaceAll(' ', '-'),
  );
  for (const { alert, annotations } of rules('alerts.yml')) {
    expect(annotations?.summary, alert).toMatch(/./);
    const [file, anchor] = annotations?.runbook_url.split('#') ?? [];
    expect(file).toBe('docs/operations.md');
    expect(headings, alert).toContain(anchor);
  }
});
