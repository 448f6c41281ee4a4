/** Writes docs/benchmarks.md from the raw reports in docs/reports, so that every figure in it has a file.  node tests/bench/render.ts */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { showSpread, type Spread } from './bench-report.ts';
import { engineSections } from './render-engine.ts';
import { routerSection } from './render-router.ts';
import { DOCS, read, source } from './report-source.ts';

interface ClusterArm {
  ttftMs: Spread;
  tokensPerSecond: Spread;
  gapMs: Spread;
  /** Not in older reports, as all that is optional here. */
  cpuMsPerToken?: Spread;
}

interface ClusterSummary {
  engineAlone: ClusterArm;
  cluster: ClusterArm;
  ratios: { ttft: Spread; tokensPerSecond: Spread; cpuPerToken?: Spread };
  othersCores?: Spread;
}

function cluster(name: string): string {
  const report = read<ClusterSummary>(name);
  const { engineAlone, cluster: through, ratios, othersCores } = report.summary;
  const { model, promptTokens, threads, streams } = report.setting as {
    model: string;
    promptTokens: number;
    threads: number;
    streams?: number;
  };
  const together = streams === undefined || streams === 1 ? '' : `, ${streams} streams together`;
  const cpu =
    engineAlone.cpuMsPerToken === undefined || through.cpuMsPerToken === undefined || ratios.cpuPerToken === undefined
      ? ''
      : `\n| CPU ms per token of the answers | ${showSpread(engineAlone.cpuMsPerToken, 1)} | ${showSpread(through.cpuMsPerToken, 1)} | ${showSpread(ratios.cpuPerToken)} |`;
  const busy = othersCores === undefined ? '' : `\nOther work kept ${showSpread(othersCores, 1)} of the cores busy meanwhile.\n`;
  return `### ${model}, prompt of ${promptTokens} tokens, ${threads} thread${threads === 1 ? '' : 's'} per process${together}

| | engine alone | through the cluster | cluster / engine |
| --- | ---: | ---: | ---: |
| time to first token, ms | ${showSpread(engineAlone.ttftMs, 0)} | ${showSpread(through.ttftMs, 0)} | ${showSpread(ratios.ttft)} |
| first to second token (handoff gap), ms | ${showSpread(engineAlone.gapMs, 0)} | ${showSpread(through.gapMs, 0)} | |
| tokens/s after the second | ${showSpread(engineAlone.tokensPerSecond, 0)} | ${showSpread(through.tokensPerSecond, 0)} | ${showSpread(ratios.tokensPerSecond)} |${cpu}
${busy}
${source(name, report)}
`;
}

function transport(name: string): string {
  const report = read<{ transportMBps: Spread; rawMBps: Spread; ratio: Spread }>(name);
  const { transportMBps, rawMBps, ratio } = report.summary;
  return `| | MB/s |
| --- | ---: |
| KV transport, codec \`none\` | ${showSpread(transportMBps, 0)} |
| raw \`nats\` publish/subscribe of equal parts | ${showSpread(rawMBps, 0)} |
| ratio, pair by pair | ${showSpread(ratio)} |

${source(name, report)}
`;
}

interface PlacementRow {
  tokens: number;
  local: { secondTokenMs: Spread; streamPauseMs: Spread };
  disaggregated: { secondTokenMs: Spread; streamPauseMs: Spread };
}

function placement(name: string): string {
  const report = read<PlacementRow[]>(name);
  const rows = report.summary.map(
    (row) =>
      `| ${row.tokens} | ${showSpread(row.local.secondTokenMs, 0)} | ${showSpread(row.disaggregated.secondTokenMs, 0)} | ` +
      `${showSpread(row.local.streamPauseMs, 0)} | ${showSpread(row.disaggregated.streamPauseMs, 0)} |`,
  );
  return `| prompt tokens | newcomer's 2nd token, ms: local | disaggregated | running stream's longest pause, ms: local | disaggregated |
| ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

${source(name, report)}
`;
}

function segments(name: string): string {
  const report = read<{
    results: { segments: number; prefillMs: Spread; decodeStepMs: Spread }[];
    perCut: { decodeStepMs: number };
  }>(name);
  const { model, promptTokens, threads } = report.setting as { model: string; promptTokens: number; threads: number };
  const rows = report.summary.results.map(
    (row) => `| ${row.segments} | ${showSpread(row.prefillMs, 0)} | ${showSpread(row.decodeStepMs)} |`,
  );
  return `| segments | prefill of ${promptTokens} tokens, ms | decode step, ms |
| ---: | ---: | ---: |
${rows.join('\n')}

${model}, ${threads} threads; variants take turns. By the medians a cut adds ${report.summary.perCut.decodeStepMs.toFixed(3)} ms to a decode step.

${source(name, report)}
`;
}

interface CancelSummary {
  cancellations: number;
  phases: Record<string, number>;
  ms: Spread & { p90: number; p99: number };
  histogram: { upToMs: number | null; cancellations: number }[];
}

function cancel(name: string): string {
  const report = read<CancelSummary>(name);
  const { cancellations, phases, ms, histogram } = report.summary;
  const { requests, beside } = report.setting as { requests: number; beside: number };
  const filled = histogram.filter((bucket) => bucket.cancellations > 0);
  return `${requests} requests given up at random moments (${Object.entries(phases)
    .map(([phase, count]) => `${count} ${phase}`)
    .join(
      ', ',
    )}), ${beside} other streams going on. ${cancellations} workers' parts: median ${ms.median.toFixed(1)} ms, p90 ${ms.p90.toFixed(1)}, p99 ${ms.p99.toFixed(1)}, longest ${ms.max.toFixed(1)} (aim: 100).

| up to ms | ${filled.map((bucket) => bucket.upToMs ?? 'more').join(' | ')} |
| --- |${filled.map(() => ' ---: |').join('')}
| cancellations | ${filled.map((bucket) => bucket.cancellations).join(' | ')} |

${source(name, report)}
`;
}

interface ExpertSummary {
  runs: ({ shards: number; streams: number } & Record<
    | 'tokensPerSecond'
    | 'gapP50Ms'
    | 'gapP95Ms'
    | 'bytesPerToken'
    | 'packMs'
    | 'networkMs'
    | 'queueMs'
    | 'computeMs'
    | 'combineMs',
    Spread
  >)[];
  kills: { count: number; different: number; longestGapMs: Spread; undisturbedLongestGapMs: Spread };
}

function experts(name: string): string {
  const report = read<ExpertSummary>(name);
  const { runs, kills } = report.summary;
  const gaps = (report.repeats as { kind: string; killed: string; longestGapMs: number }[])
    .filter(({ kind, killed }) => kind === 'kill' && killed !== 'none')
    .map(({ longestGapMs }) => longestGapMs.toFixed(0));
  const speed = runs.map(
    (row) =>
      `| ${row.shards === 0 ? 'in process' : row.shards} | ${row.streams} | ${showSpread(row.tokensPerSecond, 0)} | ` +
      `${showSpread(row.gapP50Ms, 1)} | ${showSpread(row.gapP95Ms, 1)} | ${row.shards === 0 ? '' : (row.bytesPerToken.median / 1024).toFixed(1)} |`,
  );
  const parts = runs
    .filter(({ shards }) => shards > 0)
    .map(
      (row) =>
        `| ${row.shards} | ${row.streams} | ${[row.packMs, row.networkMs, row.queueMs, row.computeMs, row.combineMs]
          .map((part) => part.median.toFixed(3))
          .join(' | ')} |`,
    );
  return `| shards | streams | tokens/s | ms between tokens, p50 | p95 | KiB per token to and from shards |
| ---: | ---: | ---: | ---: | ---: | ---: |
${speed.join('\n')}

Where the time of a MoE layer goes, ms (medians; queue and compute are the slowest shard's, network is the rest of its answer's time):

| shards | streams | pack | network | queue | compute | combine |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${parts.join('\n')}

SIGKILL of one of three shards, each expert on two, in the middle of 8 streams, ${kills.count} times: ${kills.different} answers differ from the
undisturbed one. Longest gap between two tokens of any stream: ${showSpread(kills.longestGapMs, 0)} ms, without a kill ${showSpread(kills.undisturbedLongestGapMs, 0)} ms. All of them, ms: ${gaps.join(', ')}.

${source(name, report)}
`;
}

function conversions(name: string): string {
  const report = read<Record<string, { toWire: Spread; fromWire: Spread }>>(name);
  const rows = Object.entries(report.summary).map(
    ([what, { toWire, fromWire }]) => `| ${what} | ${showSpread(toWire)} | ${showSpread(fromWire)} |`,
  );
  return `| pages as wire | to wire | from wire |
| --- | ---: | ---: |
${rows.join('\n')}

${source(name, report)}
`;
}

interface LoadSummary {
  fileBytes: number;
  kvBudget: number;
  readMs: Spread;
  readyMs: Spread;
  ratio: Spread;
  cpuSeconds: Spread;
  peakBytes: Spread;
  peakRatio: Spread;
}

function loading(names: readonly string[]): string {
  const reports = names.map((name) => ({ name, report: read<LoadSummary>(name) }));
  const rows = reports.map(({ report }) => {
    const { fileBytes, readMs, readyMs, ratio, cpuSeconds, peakBytes, peakRatio } = report.summary;
    const { model, precision } = report.setting as { model: string; precision: string };
    const mib = (spread: Spread): string => (spread.median / 2 ** 20).toFixed(0);
    return (
      `| ${model}, ${precision} | ${(fileBytes / 1e6).toFixed(0)} | ${mib(peakBytes)} | ${showSpread(peakRatio)} | ${showSpread(cpuSeconds, 1)} | ` +
      `${(readMs.median / 1000).toFixed(1)} | ${(readyMs.median / 1000).toFixed(1)} | ${showSpread(ratio, 1)} |`
    );
  });
  return `| model | file, MB | peak, MiB | peak / file | CPU until ready, s | file read cold, s | ready, s | ready / read |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

${reports.map(({ name, report }) => source(name, report)).join('\n\n')}
`;
}

interface MaskRow {
  format: string;
  openMs: Spread;
  p50Ms: Spread;
  p99Ms: Spread;
  maxMs: Spread;
}

function masks(name: string): string {
  const report = read<{
    masks: MaskRow[];
    gaps: { freeMs: Spread; heldMs: Spread; ratio: Spread; freeP99Ms: Spread; heldP99Ms: Spread };
  }>(name);
  const { model, vocabulary, answerTokens, threads } = report.setting as {
    model: string;
    vocabulary: number;
    answerTokens: number;
    threads: number;
  };
  const { gaps } = report.summary;
  const rows = report.summary.masks.map(
    (row) =>
      `| ${row.format} | ${showSpread(row.openMs, 1)} | ${showSpread(row.p50Ms, 3)} | ${showSpread(row.p99Ms)} | ${showSpread(row.maxMs, 1)} |`,
  );
  return `| format | compiled, first mask, ms | mask p50, ms | p99 | longest |
| --- | ---: | ---: | ---: | ---: |
${rows.join('\n')}

Documents of random tokens, which visit more places than a model's; vocabulary of ${vocabulary} tokens (${model}). One sequence of ${answerTokens} tokens
decoded by ${threads} threads, free and held to a format in turns:

| ms between tokens | free | held | held / free |
| --- | ---: | ---: | ---: |
| median | ${showSpread(gaps.freeMs, 1)} | ${showSpread(gaps.heldMs, 1)} | ${showSpread(gaps.ratio)} |
| p99 | ${showSpread(gaps.freeP99Ms, 1)} | ${showSpread(gaps.heldP99Ms, 1)} | |

${source(name, report)}
`;
}

function quality(names: readonly string[]): string {
  return names
    .map((name) => {
      const report = read<Record<string, { kl: number; top1: number }>>(name);
      const { model, positions } = report.setting as { model: string; positions: number };
      const rows = Object.entries(report.summary).map(
        ([what, { kl, top1 }]) => `| ${what} | ${kl.toExponential(1)} | ${top1.toFixed(3)} |`,
      );
      return `| ${model}, ${positions} prompts | mean KL, nats | same likeliest token |
| --- | ---: | ---: |
${rows.join('\n')}

${source(name, report)}
`;
    })
    .join('\n');
}

const page = `# Benchmarks

Figures of one machine that other work shares: read the ratios, which compare both arms alternating in one run, before the absolute
numbers. Shown is the median (least–largest) of the repeats. This page is written by \`./causeway bench render\` from the raw
reports beside it; each section names the command that makes its report.

${engineSections()}
## Through the cluster against the engine alone

The engine alone runs in one process with as many threads as a worker has. The cluster is router, prefill worker, NATS and decode worker
as separate processes on the same cores, so prefill, transfer and router compete for them: on two cores this is the worst case, and the
figures below are below what separate machines give.

${cluster('cluster-smollm2-512')}
${cluster('cluster-tiny-moe-512')}
${routerSection('router')}
## KV transport against raw NATS

Two processes on one nats-server, 1 MiB parts. The transport checksums every part (CRC-32C), keeps its credits and commits by a digest
over the whole; raw NATS does none of that.

${transport('kv-transport')}
## Pages to wire order and back

GB of stored bytes for each second of processor time, one thread. A cast to f32 writes two (16 bits) or four (8 bits) times as many bytes.

${conversions('kv-convert')}
## What a family's KV costs in quality

The next token's distribution after prompts of many lengths, every score computed from rounded K and V, against f32 KV.

${quality(['kv-quality-smollm2-135m-instruct', 'kv-quality-tiny-moe'])}
## Where a prompt should be prefilled

A newcomer beside a running stream, both workers on the same two cores. Prefilled \`local\`ly the newcomer has its second token earlier, at
the cost of a pause of the running stream as long as the prefill; \`disaggregated\` keeps the stream going. Up to about 32 tokens the
newcomer gains more than the stream loses; beyond it the pause grows with the prompt. That is the default of
\`CAUSEWAY_LOCAL_PREFILL_TOKENS\`. With workers on machines of their own the newcomer's loss shrinks to the transfer alone.

${placement('placement')}
## From cancellation to the last work

What a worker may still do for a request after the client has gone: the rest of a shared step, or of an operator of its own run.

${cancel('cancel')}
## Experts in shards

tiny-moe (4 MoE layers of 16 experts, 192 wide) with its experts in the worker and in shards on the same two cores: processes that share
cores can only lose by being apart, and a model this small loses most, since its layers compute for less time than a message takes.

${experts('experts')}
## Cost of a cut between graph segments

${segments('segment-cut')}
## Loading a model

A decode worker from its start to \`ready\`, the file dropped from the page cache before, 256 MiB for KV. The peak is that of the resident
memory: with pages of the mapped file, Node (some 200 MiB) and the KV. The aims are a peak of 2.5 times the file and the KV budget, and
ready in 2.5 times the time in which the file is read cold. The first holds for files of a gigabyte, but where \`exact\` makes f32 of
8-bit weights, which alone is 3.8 times the file; a small file weighs less than Node. The second is missed: the work takes several seconds
of CPU for each gigabyte (hash, conversion, packing by ONNX Runtime, warm-up), and the two cores of this machine were busy with other
work all the while, so that the clock shows several times that.
The random checkpoints are made by \`tests/bench/random-checkpoint.ts\`
(\`--type BF16 --layers 8\`, \`--type Q4_0 --layers 30\`, \`--type Q8_0 --layers 16\`).

${loading(['load-smollm2-exact', 'load-smollm2-fast', 'load-bf16', 'load-q4-exact', 'load-q8-fast', 'load-q8-exact'])}

## Structured output

From a token to the mask of the next one, through the thread that computes it, while the model's next step runs.

${masks('masks')}`;

writeFileSync(join(DOCS, 'benchmarks.md'), page);
console.log('wrote docs/benchmarks.md');
