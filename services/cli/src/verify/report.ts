import type { CaseReport, VerifyReport } from './run-verify.ts';

const show = (value: number | undefined): string => (value === undefined ? '-' : value.toExponential(2));

/** One line of a case. */
export function caseLine(report: CaseReport): string {
  const { greedy } = report;
  const parts = [
    report.ok ? 'ok  ' : 'FAIL',
    report.name.padEnd(36),
    greedy.total === 0 ? '' : `greedy ${greedy.agreed}/${greedy.total} (must: ${greedy.required})`,
    report.promptIdsEqual === undefined ? '' : `prompt ids ${report.promptIdsEqual ? 'equal' : 'DIFFER'}`,
    report.logitError === undefined ? '' : `logit error ${show(report.logitError)}`,
    report.logprobError === undefined ? '' : `log-probability distance ${show(report.logprobError)}`,
  ];
  return parts.filter((part) => part !== '').join('  ');
}

/** The verdict for a person. */
export function summary(report: VerifyReport): string {
  const error =
    report.form === 'logits'
      ? `largest logit error ${show(report.largestLogitError)}`
      : `largest log-probability distance ${show(report.largestLogprobError)}`;
  return `${report.ok ? 'verified' : 'NOT verified'}: ${report.backend}, ${report.precision}; ${error} (at most ${show(report.tolerance)}); greedy ${report.greedyAgreed}/${report.greedyTotal}`;
}
