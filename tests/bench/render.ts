/** Writes docs/benchmarks.md from the raw reports in docs/reports, so that every figure in it has a file.  node tests/bench/render.ts */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { showSpread, type Spread } from './bench-report.ts';
import { engineSections } from './render-engine.ts';
import { expertSections } from './render-experts.ts';
import { longPromptSections } from './render-long-prompts.ts';
import { mixedSection } from './render-mixed.ts';
import { routerSection } from './render-router.ts';
import { breakEven, codecPolicy, codecs, transfers } from './render-transfer.ts';
import { DOCS, has, read, source } from './report-source.ts';

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

interface TopologyRow {
  topology: string;
  processes: number;
  readySeconds: Spread;
  residentMiB: Spread;
  tokensPerSecondOne: Spread;
  tokensPerSecondFour: Spread;
  cpuMsPerTokenOne: Spread;
  cpuMsPerTokenFour: Spread;
  othersCores: Spread;
}

function topologies(name: string): string {
  const report = read<TopologyRow[]>(name);
  const rows = report.summary.map(
    (row) =>
      `| ${row.topology} | ${row.processes} | ${showSpread(row.readySeconds, 1)} | ${showSpread(row.residentMiB, 0)} | ` +
      `${showSpread(row.tokensPerSecondOne, 0)} | ${showSpread(row.tokensPerSecondFour, 0)} | ` +
      `${showSpread(row.cpuMsPerTokenOne, 1)} | ${showSpread(row.cpuMsPerTokenFour, 1)} | ${showSpread(row.othersCores, 1)} |`,
  );
  return `| topology | processes | ready after, s | memory, MiB | tokens/s, one request | four | CPU per token, ms: one | four | cores busy for others |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

${source(name, report)}
`;
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

function conversions(name: string): string {
  const report = read<Record<string, { toWire: Spread; fromWire: Spread }>>(name);
  const rows = Object.entries(report.summary).map(
    ([what, { toWire, fromWire }]) =>
      `| ${what} | ${showSpread(toWire)} | ${showSpread(fromWire)} | ${asF32(what, toWire)} | ${asF32(what, fromWire)} |`,
  );
  return `| pages as wire | to wire | from wire | to wire, f32 | from wire, f32 |
| --- | ---: | ---: | ---: | ---: |
${rows.join('\n')}

${source(name, report)}
`;
}

/** GB of f32 a second of a cast. */
function asF32(what: string, { median }: Spread): string {
  if (!what.endsWith(' as f32')) return '';
  return ((what.startsWith('bf16') ? 2 : 4) * median).toFixed(2);
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
${['cluster-smollm2-1024', 'cluster-smollm2-8-streams'].filter(has).map(cluster).join('\n')}
${routerSection('router')}
${mixedSection(['mixed-256', 'mixed-2048'])}
## KV transport against raw NATS

Two processes on one nats-server, 1 MiB parts. The transport checksums every part (CRC-32C), keeps its credits and commits by a digest
over the whole; raw NATS does none of that.

${transport('kv-transport')}
${longPromptSections()}
## Pages to wire order and back

GB of stored bytes for each second of processor time, one thread, and of the f32 numbers that a cast reads or writes, which are two (16 bits)
or four (8 bits) times as many bytes.

${conversions('kv-convert')}
## What codecs cost

GB of raw bytes for each second of processor time, one thread, with the checksums of raw bytes and body that a transfer makes. Aims for bf16 under
\`planes+zstd\`: ratio 1.45, 1 GB/s to encode, 1.5 GB/s to decode; for f16 a ratio of 1.17, which is missed: of its 16 bits only five are exponent.
The load average was 25 on two cores meanwhile: processor time too grows where caches and cores are shared, and the aims in GB/s are not shown to be met.

${codecs('kv-codecs')}
## KV between chip families

Sender and receiver are two processes on one nats-server, nothing overlaps with prefill. The share of TTFT is that of a transfer after
the prefill of the same tokens. Times and GB/s are of a machine that others keep busy; processor time and ratio are what stays.

${transfers('transfer')}
## Which codec a link gets

Time to commit over a link that a shaping proxy holds to its rate, \`auto\` against each fixed codec, in turns. This machine carries some
100 to 300 MB/s of KV with nothing in the way (see above: 1.6 Gbit/s), so that its links of 1 and 10 Gbit/s are bound by the two cores
that sender, receiver, nats-server, proxy and other work share: there the codecs are as good as one another, and what is chosen changes
with what else the machine does. At 50 Mbit/s the link is what counts. Aim: within 10 % of the fastest. The medians are several times
the least times: that is other work.

${codecPolicy('codec-policy')}
## From which length a prefill worker pays

Prefilled where it is decoded, a prompt stops the answers that run there while it is read; prefilled elsewhere, its own answer waits
for the rest of its transfer instead. It pays where the wait is shorter than the pause. Predicted: the fixed cost of a handoff, and
what a link of that bandwidth has left to carry when the prompt is read, chunks having left meanwhile.

${breakEven('break-even')}
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
${expertSections()}
## What the built-in topology costs

\`up\` without a file (two prefill workers as \`nvidia\`, two decode workers as \`ascend\`, two expert shards) beside \`topologies/minimal.yaml\` (one
of each on the CPU, with experts of their own), tiny-moe. Memory is resident, of all processes, shared pages counted in each. Processes that
share cores gain nothing by being several; each token's experts cost messages. Other work kept the machine's cores busy meanwhile, as the last
column says: times by the clock are several times those of an idle machine. CPU time is disturbed less; it holds what processes do without a request too.

${topologies('topologies')}
## Cost of a cut between graph segments

${segments('segment-cut')}
## Loading a model

A decode worker from its start to \`ready\`, the file dropped from the page cache before, 256 MiB for KV. The peak is that of the resident
memory: with pages of the mapped file, Node (some 200 MiB) and the KV. The aims are a peak of 2.5 times the file and the KV budget, and
ready in 2.5 times the time in which the file is read cold. The first holds for files of a gigabyte, of bf16 but by the KV; a small file
weighs less than Node. The second is missed: the work takes several seconds
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
