/** What deploy/prometheus/rules defines. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { METRICS } from '@causeway/telemetry';
import { parse } from 'yaml';

const RULES = resolve(import.meta.dirname, '../../deploy/prometheus/rules');

export interface Rule {
  record?: string;
  alert?: string;
  expr: string;
  annotations?: { summary: string; description: string; runbook_url: string };
}

export function rules(file: 'recording.yml' | 'alerts.yml'): Rule[] {
  const { groups } = parse(readFileSync(resolve(RULES, file), 'utf8')) as { groups: { rules: Rule[] }[] };
  return groups.flatMap((group) => group.rules);
}

export function recordedNames(): string[] {
  return rules('recording.yml').flatMap(({ record }) => record ?? []);
}

/** Labels that Prometheus adds to every series: by scrape configuration, and `le` of histograms. */
const SCRAPED = ['instance', 'job', 'pool', 'le'];

/** Every series that a query may name, with the labels that it has; a recording rule has those that it aggregates by. */
export function knownSeries(): Map<string, readonly string[]> {
  const known = new Map<string, readonly string[]>([['up', SCRAPED]]);
  for (const metric of Object.values(METRICS)) {
    for (const suffix of metric.kind === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']) {
      known.set(metric.name + suffix, [...metric.labels, ...SCRAPED]);
    }
  }
  // prom-client's own, by the names of its default metrics.
  for (const name of ['process_resident_memory_bytes', 'nodejs_heap_size_used_bytes', 'process_cpu_seconds_total'])
    known.set(name, SCRAPED);
  for (const { record, expr } of rules('recording.yml')) {
    if (record === undefined) continue;
    const by =
      /\bby \(([^)]*)\)/
        .exec(expr)?.[1]
        ?.split(',')
        .map((label) => label.trim()) ?? [];
    known.set(
      record,
      by.filter((label) => label !== 'le'),
    );
  }
  return known;
}

/** What is wrong with a query: names that nothing exports, labels that a series does not have. */
export function queryProblems(expr: string, known = knownSeries()): string[] {
  const names = expr.match(/(?:vllm:|causeway[_:]|process_|nodejs_)[\w:]+|\bup\b/g) ?? [];
  if (names.length === 0) return [`"${expr}" names no series`];
  const problems = names.filter((name) => !known.has(name)).map((name) => `"${expr}": nothing exports ${name}`);
  const labels = new Set(names.flatMap((name) => known.get(name) ?? []));
  const used = [
    ...[...expr.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].flatMap(([, list]) => (list ?? '').split(',').map((label) => label.trim())),
    ...[...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, list]) =>
      [...(list ?? '').matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label ?? ''),
    ),
  ];
  return [
    ...problems,
    ...used.filter((label) => label !== '' && !labels.has(label)).map((label) => `"${expr}": no label ${label}`),
  ];
}
