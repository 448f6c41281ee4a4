import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { vulkanHere } from '../cluster/vulkan.ts';
import { REPOSITORY } from '../paths.ts';
import type { Output } from '../terminal/output.ts';
import { FULL_REPORT, fullReport, writeFullReport } from '../test-run/full-report.ts';
import { selectedTests } from '../test-run/selection.ts';
import { parseSkipList } from '../test-run/skip-list.ts';
import { type Tally, tally, type TestReport, testReport } from '../test-run/tally.ts';

export interface TestOptions {
  /** Also what takes long: sets CAUSEWAY_TEST_FULL=1. */
  full: boolean;
  /** Vitest's own arguments: files, -t pattern. */
  args: readonly string[];
}

/** Runs vitest over the workspace and prints `N passed, N failed, N skipped` as the last line. Exit code 0 only when nothing failed. */
export async function test(
  options: TestOptions,
  deps: { out: Output; env: Readonly<Record<string, string | undefined>> },
): Promise<number> {
  const { out, env } = deps;
  const began = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'causeway-test-'));
  const reportFile = join(folder, 'report.json');
  try {
    const vitest = join(REPOSITORY, 'node_modules', 'vitest', 'vitest.mjs');
    const args = [
      vitest,
      'run',
      '--root',
      REPOSITORY,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
      ...options.args,
    ];
    const vulkan = await vulkanHere(out);
    if (vulkan.kind === 'none') out.line(`chip webgpu is not tested: ${vulkan.why}`);
    const code = await run(args, {
      ...env,
      ...(options.full ? { CAUSEWAY_TEST_FULL: '1' } : {}),
      CAUSEWAY_TEST_VULKAN: vulkan.kind === 'folder' ? vulkan.folder : vulkan.kind,
    });
    const { report, counted } = count(reportFile, code, options.args);
    if (options.full && options.args.length === 0 && report !== undefined) {
      writeFullReport(fullReport(report, counted, (performance.now() - began) / 1000));
      out.line(`wrote    ${relative(REPOSITORY, FULL_REPORT)}`);
    }
    for (const skip of counted.skips) out.line(`skipped  ${skip}`);
    for (const name of counted.unused) out.line(`note     tests/skips.txt lists "${name}", and there is no such test`);
    for (const failure of counted.failures) out.line(`${out.red('failed')}   ${failure}`);
    out.line(`${counted.passed} passed, ${counted.failed} failed, ${counted.skipped} skipped`);
    return counted.failed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'], env: { ...env }, cwd: REPOSITORY });
  return new Promise((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

/** @param args vitest's; without any all tests ran, so that every listed skip should have been met */
function count(reportFile: string, code: number, args: readonly string[]): { report: TestReport | undefined; counted: Tally } {
  const list = parseSkipList(readFileSync(join(REPOSITORY, 'tests', 'skips.txt'), 'utf8'));
  let report: TestReport;
  try {
    report = testReport.parse(JSON.parse(readFileSync(reportFile, 'utf8')));
  } catch (error) {
    const why = `vitest left no readable report (exit code ${code}): ${error instanceof Error ? error.message : String(error)}`;
    return { report: undefined, counted: { passed: 0, failed: 1, skipped: 0, failures: [why], skips: [], unused: [] } };
  }
  const counted = tally(report, list, selectedTests(args));
  return { report, counted: { ...counted, ...(args.length > 0 ? { unused: [] } : {}), ...suspicion(counted, code) } };
}

/** What the counts alone don't show. */
function suspicion(counted: Tally, code: number): Pick<Tally, 'failed' | 'failures'> | undefined {
  if (counted.passed + counted.failed + counted.skipped === 0) return { failed: 1, failures: ['no test was run'] };
  if (code === 0 || counted.failed > 0) return undefined;
  // An error outside of every test, such as an unhandled rejection.
  return { failed: 1, failures: [`vitest ended with exit code ${code} though no test failed: see its output above`] };
}
