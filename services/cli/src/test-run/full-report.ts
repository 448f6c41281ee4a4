import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { REPOSITORY } from '../paths.ts';
import type { Tally, TestReport } from './tally.ts';

/** Where the last whole run of `./causeway test --full` stands. */
export const FULL_REPORT = join(REPOSITORY, 'docs', 'reports', 'full-tests.json');

/** What of a full run is worth keeping: counts and seconds file by file, failures, skips, and on what it ran. */
export function fullReport(report: TestReport, counted: Tally, seconds: number): object {
  const files = report.testResults.map(({ name, status, assertionResults, startTime, endTime }) => ({
    file: relative(REPOSITORY, name),
    status,
    passed: assertionResults.filter((test) => test.status === 'passed').length,
    failed: assertionResults.filter((test) => test.status === 'failed').length,
    skipped: assertionResults.filter((test) => test.status !== 'passed' && test.status !== 'failed').length,
    seconds: startTime === undefined || endTime === undefined ? null : Math.round((endTime - startTime) / 100) / 10,
  }));
  return {
    what: './causeway test --full',
    date: new Date().toISOString(),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: REPOSITORY, encoding: 'utf8' }).trim(),
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 1024 ** 3),
      node: process.version,
    },
    seconds: Math.round(seconds),
    passed: counted.passed,
    failed: counted.failed,
    skipped: counted.skipped,
    failures: counted.failures.map((failure) => failure.replaceAll(`${REPOSITORY}/`, '')),
    skips: counted.skips,
    files: files.toSorted((a, b) => (a.file < b.file ? -1 : 1)),
  };
}

/** Writes `FULL_REPORT`. */
export function writeFullReport(report: object): void {
  mkdirSync(dirname(FULL_REPORT), { recursive: true });
  writeFileSync(FULL_REPORT, `${JSON.stringify(report, undefined, 2)}\n`);
}
