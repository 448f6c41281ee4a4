/** The page's part on experts in shards. */
import { showSpread, type Spread } from './bench-report.ts';
import { has, read, source } from './report-source.ts';

type RunFigure =
  | 'tokensPerSecond'
  | 'gapP50Ms'
  | 'gapP95Ms'
  | 'bytesPerToken'
  | 'packMs'
  | 'networkMs'
  | 'queueMs'
  | 'computeMs'
  | 'combineMs';

/** Not in reports of before it was measured. */
type CpuFigure = 'workerCpuMs' | 'shardCpuMs';

interface RunSummary {
  runs: ({ shards: number; streams: number } & Record<RunFigure, Spread> & Partial<Record<CpuFigure, Spread>>)[];
  kills?: { count: number; different: number; longestGapMs: Spread; undisturbedLongestGapMs: Spread };
}

function throughput(name: string): string {
  const report = read<RunSummary>(name);
  const { runs } = report.summary;
  const load = (report.repeats as { loadAverage?: number }[]).flatMap(({ loadAverage }) => loadAverage ?? []);
  const speed = runs.map((row) => {
    const remote = row.shards > 0;
    const cells = [
      remote ? row.shards : 'in process',
      row.streams,
      showSpread(row.tokensPerSecond, 0),
      showSpread(row.gapP50Ms, 1),
      showSpread(row.gapP95Ms, 1),
      row.workerCpuMs?.median.toFixed(2) ?? '',
      remote ? (row.shardCpuMs?.median.toFixed(2) ?? '') : '',
      remote ? (row.bytesPerToken.median / 1024).toFixed(1) : '',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  const parts = runs
    .filter(({ shards }) => shards > 0)
    .map((row) => {
      const times = [row.packMs, row.networkMs, row.queueMs, row.computeMs, row.combineMs].map(({ median }) => median.toFixed(3));
      return `| ${[row.shards, row.streams, ...times].join(' | ')} |`;
    });
  return `| shards | streams | tokens/s | ms between tokens, p50 | p95 | CPU ms per token, worker | all shards | KiB per generated token to and from shards |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${speed.join('\n')}

Where the time of a MoE layer goes, ms (means of a round, their medians; queue and compute are the slowest shard's, network is the rest of
its answer's time):

| shards | streams | pack | network | queue | compute | combine |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${parts.join('\n')}

The machine's load average meanwhile was ${Math.min(...load).toFixed(0)} to ${Math.max(...load).toFixed(0)}, on two cores.

${source(name, report)}
`;
}

function kills(name: string): string {
  const report = read<RunSummary>(name);
  const summary = report.summary.kills;
  if (summary === undefined) throw new Error(`${name} has no kills`);
  const { count, different, longestGapMs, undisturbedLongestGapMs } = summary;
  const rows = report.repeats as { kind: string; killed: string; longestGapMs: number; loadAverage: number }[];
  const gaps = (killed: boolean): string =>
    rows
      .filter((row) => row.kind === 'kill' && (row.killed !== 'none') === killed)
      .map((row) => row.longestGapMs.toFixed(0))
      .join(', ');
  const load = rows.flatMap(({ loadAverage }) => loadAverage ?? []);
  return `SIGKILL of one of three shards, each expert on two, in the middle of 8 streams, ${count} times: ${different} answers differ from the
undisturbed one. Longest gap between two tokens of any stream: ${showSpread(longestGapMs, 0)} ms, without a kill, in between,
${showSpread(undisturbedLongestGapMs, 0)} ms; load average ${Math.min(...load).toFixed(0)} to ${Math.max(...load).toFixed(0)} on two cores. All of them, ms: ${gaps(true)}; without: ${gaps(false)}.

${source(name, report)}
`;
}

interface DispatchRow
  extends Record<
    'totalMs' | 'packMs' | 'networkMs' | 'queueMs' | 'computeMs' | 'combineMs' | 'besideMs' | 'bareMs' | 'ratio' | 'networkRatio',
    Spread
  > {
  /** Not in reports of before it was measured. */
  gateMs?: Spread;
  tokens: number;
  bytesPerToken: number;
  leastBytesPerToken: number;
}

function dispatch(name: string): string {
  const report = read<DispatchRow[]>(name);
  const rows = report.summary.map((row) => {
    const times = [row.packMs, row.networkMs, row.queueMs, row.computeMs, row.combineMs, row.bareMs].map(({ median }) =>
      median.toFixed(3),
    );
    const bytes = (row.bytesPerToken / row.leastBytesPerToken).toFixed(2);
    const gate = row.gateMs?.median.toFixed(3) ?? '';
    return `| ${[row.tokens, gate, ...times, showSpread(row.networkRatio), showSpread(row.ratio), bytes].join(' | ')} |`;
  });
  return `One layer dispatched to one shard against a bare grpc-js message of as many bytes there and back, in turns. Each time is what a
tenth of a round's layers stay below, then the median of the rounds, since the machine did other work too. The gate is what a worker computes
before, timed as a graph of its own. The aim of 1.5 times the bare message is missed: beside the message itself, network holds what both ends do
with a frame (its rows are gathered, its pairs checked, the answer copied out of the run's memory), and processes that compute in between
wake later than an echo.

| tokens | gate | pack | network | queue | compute | combine | bare message | network / bare | all but compute / bare | bytes / least |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

The least bytes are a row there and one back.

${source(name, report)}
`;
}

interface BalanceSummary {
  arms: { arm: string; tokensPerSecond: Spread; tokensPerBusiestSecond: Spread; maxOverMean: Spread; predicted: number }[];
  ratio: Spread;
  busiestRatio: Spread;
}

function balance(name: string): string {
  const report = read<BalanceSummary>(name);
  const { shards, experts, perToken, tokens, exponent, hotCopies } = report.setting as Record<string, number>;
  const { arms, ratio, busiestRatio } = report.summary;
  const rows = arms.map(
    ({ arm, tokensPerSecond, tokensPerBusiestSecond, maxOverMean, predicted }) =>
      `| ${arm} | ${showSpread(tokensPerSecond, 0)} | ${showSpread(tokensPerBusiestSecond, 0)} | ${showSpread(maxOverMean)} | ${predicted.toFixed(2)} |`,
  );
  const load = (report.repeats as { loadAverage: number }[]).map(({ loadAverage }) => loadAverage);
  return `${experts} experts on ${shards} shards, ${perToken} for each of ${tokens} tokens of a frame, drawn by Zipf's law with exponent ${exponent}: placed in order, so
that the most wanted lie together, and by load with ${hotCopies} further copies. Four shards share two cores, and with a load average of
${Math.min(...load).toFixed(0)} to ${Math.max(...load).toFixed(0)} the clock says little; by the CPU time of the busiest shard is what shards with cores of their own would do.

| placed | tokens/s by the clock | by the busiest shard's CPU time | busiest over mean, by calls | as planned |
| --- | ---: | ---: | ---: | ---: |
${rows.join('\n')}

By load against in order: ${showSpread(ratio)} by the clock, ${showSpread(busiestRatio)} by the busiest shard's CPU time.

${source(name, report)}
`;
}

export function expertSections(): string {
  const middle = has('experts-mid')
    ? `### A model with a gigabyte of experts

A random qwen3_moe in bf16, computed in f32 (10 layers of 32 experts, 8 per token, 1024 wide).

${throughput('experts-mid')}
`
    : '';
  return `## Experts in shards

tiny-moe (4 MoE layers of 16 experts, 192 wide) with its experts in the worker and in shards on the same two cores: processes that share
cores can only lose by being apart, and a model this small loses most, since its layers compute for less time than a message takes.
Each table is of the commit below it: the dispatch was measured with sums and short runs on the event loop, the first two tables without.

${throughput('experts')}
${middle}### What a dispatch costs

${dispatch('expert-dispatch')}
### A skewed load

${balance('expert-balance')}
### Shards that are killed

${kills(has('experts-kills') ? 'experts-kills' : 'experts')}`;
}
