/** Raw reports as docs/benchmarks.md reads them. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const DOCS = resolve(import.meta.dirname, '../../docs');

export interface Report<S> {
  date: string;
  commit: string;
  command: string;
  machine: { cpu: string; cores: number; memoryGiB: number; node: string };
  peers: Record<string, string>;
  setting: Record<string, unknown>;
  repeats: unknown[];
  summary: S;
}

/** Whether there is such a report. */
export const has = (name: string): boolean => existsSync(join(DOCS, 'reports', `${name}.json`));

export function read<S>(name: string): Report<S> {
  return JSON.parse(readFileSync(join(DOCS, 'reports', `${name}.json`), 'utf8')) as Report<S>;
}

/** The line under a table that says where its figures come from. */
export function source(name: string, report: Report<unknown>): string {
  const { machine } = report;
  return `\`${report.command}\` · [every repeat](reports/${name}.json) · commit ${report.commit}, ${machine.cpu} ${machine.cores} cores, Node ${machine.node}`;
}
