import { z } from 'zod';
import type { SkipList } from './skip-list.ts';

/** Vitest's JSON report (the same form as Jest's), the fields that count. */
export const testReport = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      /** Milliseconds since 1970. */
      startTime: z.number().optional(),
      endTime: z.number().optional(),
      message: z.string().default(''),
      assertionResults: z.array(
        z.object({
          ancestorTitles: z.array(z.string()),
          title: z.string(),
          status: z.enum(['passed', 'failed', 'skipped', 'pending', 'todo', 'disabled']),
          failureMessages: z.array(z.string()).nullish(),
        }),
      ),
    }),
  ),
});

export type TestReport = z.infer<typeof testReport>;

export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
  /** What failed and why, one entry each. */
  failures: readonly string[];
  /** Skipped tests with their listed reason. */
  skips: readonly string[];
  /** Listed names that no test has. */
  unused: readonly string[];
}

/**
 * Counts a report. A skip that is not listed with a reason is a failure, and so is a file that could not be run.
 * @param selected whether the command line asked for the test of this name; vitest reports all others as skipped
 */
export function tally(report: TestReport, list: SkipList, selected: (name: string) => boolean = () => true): Tally {
  let passed = 0;
  const failures = list.problems.map((problem) => `tests/skips.txt: ${problem}`);
  const skips: string[] = [];
  const met = new Set<string>();
  for (const file of report.testResults) {
    for (const test of file.assertionResults) {
      const name = [...test.ancestorTitles, test.title].join(' > ');
      met.add(name);
      if (test.status !== 'passed' && test.status !== 'failed' && !selected(name)) continue;
      if (test.status === 'passed') passed += 1;
      else if (test.status === 'failed') failures.push(`${name} (${file.name})`);
      else {
        const reason = list.reasons.get(name);
        if (reason === undefined) failures.push(`${name} (${file.name}): skipped, but not listed in tests/skips.txt`);
        else skips.push(`${name}: ${reason}`);
      }
    }
    const told = file.assertionResults.some((test) => test.status === 'failed');
    if (file.status === 'failed' && !told) failures.push(`${file.name}: ${file.message.split('\n')[0] ?? ''}`);
  }
  const unused = [...list.reasons.keys()].filter((name) => !met.has(name));
  return { passed, failed: failures.length, skipped: skips.length, failures, skips, unused };
}
