import { table } from '../terminal/table.ts';
import type { Distribution, LoadSummary, Slo } from './load-summary.ts';

const figure = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2));

/** Lateness beyond which the generator's own delay shows in what it measured, ms. */
const LATE_MS = 50;
const ERRORS_SHOWN = 5;

function sloText(slo: Slo): string {
  return Object.entries(slo)
    .map(([name, limit]) => `${name.toUpperCase()} ≤ ${String(limit)} ms`)
    .join(', ');
}

/** A run for people to read. */
export function loadTable(summary: LoadSummary): string[] {
  const { requests, errors, goodput, lateMs } = summary;
  const counts = [`${requests.completed} of ${requests.sent} requests completed in ${summary.seconds.toFixed(1)} s`];
  if (requests.failed > 0) counts.push(`${requests.failed} failed`);
  if (requests.unfinished > 0) counts.push(`${requests.unfinished} unfinished`);
  const row = (name: string, d: Distribution | undefined): string[] =>
    d === undefined ? [name, '-'] : [name, ...[d.mean, d.p50, d.p90, d.p95, d.p99, d.max].map(figure), String(d.count)];
  const lines = [
    counts.join(' · '),
    `${figure(summary.requestsPerSecond)} requests/s · ${figure(summary.outputTokensPerSecond)} output tokens/s · ` +
      `${summary.promptTokens} prompt and ${summary.outputTokens} output tokens${summary.tokensEstimated ? ' (pieces of text: the server sent no usage)' : ''}`,
    '',
    ...table(
      ['ms', 'mean', 'p50', 'p90', 'p95', 'p99', 'max', 'count'],
      [
        row('time to first token (TTFT)', summary.ttftMs),
        row('time between chunks (ITL)', summary.itlMs),
        row('time per output token (TPOT)', summary.tpotMs),
        row('whole request (E2E)', summary.e2eMs),
      ],
    ),
  ];
  if (goodput !== undefined) {
    const share = requests.sent === 0 ? 0 : (100 * goodput.good) / requests.sent;
    lines.push(
      '',
      `goodput ${figure(goodput.requestsPerSecond)} requests/s: ${share.toFixed(0)} % of requests had ${sloText(goodput.slo)}`,
    );
  }
  if (lateMs !== undefined && lateMs.p99 > LATE_MS) {
    lines.push('', `note: requests left up to ${figure(lateMs.max)} ms late: this machine is too busy to generate the load`);
  }
  if (errors.length > 0) lines.push('', ...errors.slice(0, ERRORS_SHOWN).map(({ error, count }) => `${count} x ${error}`));
  if (errors.length > ERRORS_SHOWN) lines.push(`and ${errors.length - ERRORS_SHOWN} other errors`);
  return lines;
}
