/** One raw report per benchmark: every repeat, what was run on, and against what. Figures in docs/benchmarks.md come from these files. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join, resolve } from 'node:path';

const REPORTS = resolve(import.meta.dirname, '../../docs/reports');

export interface Spread {
  median: number;
  min: number;
  max: number;
}

/** Median, least and largest of some repeats. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
  return { median, min: sorted[0] as number, max: sorted.at(-1) as number };
}

/** `1.23 (1.10-1.40)`. */
export function showSpread({ median, min, max }: Spread, digits = 2): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`;
}

/** Of this checkout; of a copy without its history CAUSEWAY_BENCH_COMMIT says it. */
export function commitHere(): string {
  return (
    process.env['CAUSEWAY_BENCH_COMMIT'] ?? execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  );
}

/** Writes docs/reports/<name>.json. `repeats` are the raw observations in order. */
export function writeReport(
  name: string,
  report: { command: string; peers: Record<string, string>; setting: object; repeats: readonly object[]; summary: object },
): void {
  mkdirSync(REPORTS, { recursive: true });
  const commit = commitHere();
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    node: process.version,
  };
  const path = join(REPORTS, `${name}.json`);
  writeFileSync(path, `${JSON.stringify({ name, date: new Date().toISOString(), commit, machine, ...report }, undefined, 2)}\n`);
  console.log(`wrote docs/reports/${name}.json`);
}

/** Value of `--name` on the command line. */
export function flag(name: string, fallback: string): string {
  const at = process.argv.indexOf(`--${name}`);
  return at === -1 ? fallback : (process.argv[at + 1] ?? fallback);
}
