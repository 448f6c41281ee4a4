/** The section of docs/benchmarks.md about workers that do both, beside one prefill and one decode worker. */
import { showSpread, type Spread } from './bench-report.ts';
import { has, read, source } from './report-source.ts';

type Figure =
  | 'itlP50'
  | 'itlP99'
  | 'itlLargest'
  | 'itlGood'
  | 'ttftP50'
  | 'ttftLargest'
  | 'goodput'
  | 'runningTokensPerSecond'
  | 'othersCores';
type Row = Record<Figure, Spread>;

const ROWS: readonly (readonly [Figure, string, number])[] = [
  ['itlP50', 'ITL of the running streams, p50, ms', 0],
  ['itlP99', 'p99', 0],
  ['itlLargest', 'longest', 0],
  ['itlGood', 'share within the SLO', 2],
  ['runningTokensPerSecond', 'tokens/s of all of them', 0],
  ['ttftP50', 'TTFT of the newcomers, p50, ms', 0],
  ['ttftLargest', 'longest', 0],
  ['goodput', 'newcomers within the SLO, per second', 2],
  ['othersCores', 'cores busy for others', 1],
];

function table(name: string): string {
  const report = read<{ both: Row; disaggregated: Row }>(name);
  const { both, disaggregated } = report.summary;
  const setting = report.setting as {
    model: string;
    promptTokens: number;
    gapMs: number;
    running: number;
    slo: { ttftMs: number; itlMs: number };
  };
  const { model, promptTokens, gapMs, running, slo } = setting;
  const rows = ROWS.map(
    ([figure, what, digits]) =>
      `| ${what} | ${showSpread(both[figure], digits)} | ${showSpread(disaggregated[figure], digits)} |`,
  );
  return `### Prompts of ${promptTokens} tokens

${model}; ${running} running streams, a newcomer every ${(gapMs / 1000).toFixed(1)} s on average (Poisson). SLO: TTFT ${slo.ttftMs} ms, ITL ${slo.itlMs} ms.

| | two workers that do both | one prefill, one decode |
| --- | ---: | ---: |
${rows.join('\n')}

${source(name, report)}
`;
}

/** Both arms at the prompt lengths that there are reports of. */
export function mixedSection(names: readonly string[]): string {
  return `## Two workers that do both against one prefill and one decode worker

A thread each on the same two cores, the same arrivals in both arms, which take turns. Two workers that do both have twice the decode
arithmetic, and stop their streams while they read a newcomer's prompt; one prefill and one decode worker never do.

${names.filter(has).map(table).join('\n')}`;
}
