import { expect, test } from 'vitest';
import { selectedTests } from './selection.ts';
import { parseSkipList } from './skip-list.ts';
import { tally, type TestReport } from './tally.ts';

function report(...tests: [string[], string, 'passed' | 'failed' | 'skipped' | 'todo'][]): TestReport {
  const assertionResults = tests.map(([ancestorTitles, title, status]) => ({
    ancestorTitles,
    title,
    status,
    failureMessages: [],
  }));
  const failed = tests.some(([, , status]) => status === 'failed');
  return { testResults: [{ name: 'a.test.ts', status: failed ? 'failed' : 'passed', message: '', assertionResults }] };
}

test('a listed skip counts as skipped, one that is not listed as failed', () => {
  const list = parseSkipList(
    '# comment\n\ngroup > needs a GPU :: no GPU on this machine\nnever met :: a reason\nfine :: on other machines\n',
  );
  const result = tally(
    report([['group'], 'needs a GPU', 'skipped'], [['group'], 'other', 'skipped'], [[], 'fine', 'passed'], [[], 'later', 'todo']),
    list,
  );
  expect(result).toMatchObject({ passed: 1, failed: 2, skipped: 1, unused: ['never met'] });
  expect(result.skips).toEqual(['group > needs a GPU: no GPU on this machine']);
  expect(result.failures[0]).toContain('group > other (a.test.ts): skipped, but not listed');
});

test('a file that could not be run is a failure of its own', () => {
  const broken: TestReport = {
    testResults: [{ name: 'b.test.ts', status: 'failed', message: 'SyntaxError: x\nmore', assertionResults: [] }],
  };
  expect(tally(broken, parseSkipList(''))).toMatchObject({ passed: 0, failed: 1, failures: ['b.test.ts: SyntaxError: x'] });
});

test('a failed test is counted once, not once more for its file', () => {
  expect(tally(report([[], 'one', 'failed'], [[], 'two', 'passed']), parseSkipList(''))).toMatchObject({ passed: 1, failed: 1 });
});

test.each(['no separator', 'name :: ', ' :: reason'])('the skip list line %j is a failure', (line) => {
  const result = tally(report([[], 'fine', 'passed']), parseSkipList(line));
  expect(result.failed).toBe(1);
  expect(result.failures[0]).toContain('tests/skips.txt: line 1');
});

test('tests that the command line left out are no skips', () => {
  const all = report(
    [['group'], 'one', 'passed'],
    [['group'], 'two', 'skipped'],
    [[], 'three', 'skipped'],
    [[], 'later', 'todo'],
  );
  const list = parseSkipList('three :: a reason');
  expect(tally(all, list, selectedTests(['-t', 'one']))).toMatchObject({ passed: 1, failed: 0, skipped: 0, skips: [] });
  expect(tally(all, list, selectedTests(['-t', 'group > t|three']))).toMatchObject({ passed: 1, failed: 1, skipped: 1 });
  expect(tally(all, list, selectedTests(['a.test.ts']))).toMatchObject({ passed: 1, failed: 2, skipped: 1 });
});

test.each([
  [['-t', '^group > one$']],
  [['-t=^group > one$']],
  [['some/file.test.ts', '--testNamePattern', '^group > one$']],
  [['--testNamePattern=^group > one$', '--bail=1']],
  [['--test-name-pattern', '^group > one$']],
])('%j asks for one test', (args) => {
  expect(['group > one', 'group > one more', 'one'].filter(selectedTests(args))).toEqual(['group > one']);
});
