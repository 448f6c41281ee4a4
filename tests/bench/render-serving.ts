/** The sections of docs/benchmarks.md about serving: the router's share, and workers that do both against workers of one kind each. */
import { showSpread, type Spread } from './bench-report.ts';
import { read, source } from './report-source.ts';

type RouterRow = Record<'p50' | 'p99' | 'firstP50' | 'routerCpuUs' | 'othersCores', Spread>;

/** What the router adds to a token's way. */
export function routerSection(name: string): string {
  const report = read<{ direct: RouterRow; router: RouterRow; added: RouterRow }>(name);
  const { direct, router, added } = report.summary;
  const { streams, workers, paceMs } = report.setting as { streams: number; workers: number; paceMs: number };
  const row = (what: string, of: RouterRow): string =>
    `| ${what} | ${showSpread(of.p50, 1)} | ${showSpread(of.p99, 1)} | ${showSpread(of.firstP50, 0)} |`;
  return `## What the router adds

${streams} streams of ${workers} scripted decode workers, each of which gives all its streams a token every ${paceMs} ms, one after the other; from a token's leaving
the worker to the client's having it, by the workers' own gRPC and through the router. The aims are 2 ms more at the median and 10 at p99.
Other work kept ${showSpread(router.othersCores, 1)} of the machine's cores busy meanwhile: a token waits for the router's turn on a core, and these figures are that
wait. What does not depend on it is the router's CPU time: ${showSpread(router.routerCpuUs, 0)} µs for each token of its streams, request and all.

| ms | p50 | p99 | first token, p50 |
| --- | ---: | ---: | ---: |
${row('direct', direct)}
${row('through the router', router)}
${row('added, pair by pair', added)}

${source(name, report)}
`;
}

type MixedRow = Record<
  | 'itlP50'
  | 'itlP99'
  | 'itlLargest'
  | 'itlGood'
  | 'ttftP50'
  | 'ttftLargest'
  | 'goodput'
  | 'runningTokensPerSecond'
  | 'othersCores',
  Spread
>;

/** Two workers that do both against one of each kind. */
export function mixedSection(names: readonly string[]): string {
  const tables = names.map((name) => {
    const report = read<{ both: MixedRow; disaggregated: MixedRow }>(name);
    const { both, disaggregated } = report.summary;
    const { promptTokens, arrivals, gapMs, running, slo } = report.setting as {
      promptTokens: number;
      arrivals: number;
      gapMs: number;
      running: number;
      slo: { ttftMs: number; itlMs: number };
    };
    const row = (what: string, key: keyof MixedRow, digits: number): string =>
      `| ${what} | ${showSpread(both[key], digits)} | ${showSpread(disaggregated[key], digits)} |`;
    return `| prompts of ${promptTokens}, ${arrivals} a repeat, every ${gapMs / 1000} s on average; ${running} streams | two that do both | prefill and decode |
| --- | ---: | ---: |
${row('between tokens of a running stream, ms: p50', 'itlP50', 0)}
${row('p99', 'itlP99', 0)}
${row('longest', 'itlLargest', 0)}
${row(`share within ${slo.itlMs} ms`, 'itlGood', 2)}
${row('tokens/s of the running streams', 'runningTokensPerSecond', 1)}
${row("newcomer's first token, ms: p50", 'ttftP50', 0)}
${row('longest', 'ttftLargest', 0)}
${row(`newcomers within ${slo.ttftMs / 1000} s, per second`, 'goodput', 3)}
${row('cores busy for others', 'othersCores', 1)}

${source(name, report)}
`;
  });
  return `## Workers that do both, or one thing each

Two workers with a core each, on SmolLM2: two decode workers that prefill their own prompts, or a prefill and a decode worker. Streams run
while long prompts arrive at the same moments in both arms.

${tables.join('\n')}`;
}
