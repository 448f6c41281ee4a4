/** Writes docs/benchmarks.md from the raw reports in docs/reports, so that every figure in it has a file.  node tests/bench/render.ts */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { showSpread, type Spread } from './bench-report.ts';

const DOCS = resolve(import.meta.dirname, '../../docs');

interface Report<S> {
  date: string;
  commit: string;
  command: string;
  machine: { cpu: string; cores: number; memoryGiB: number; node: string };
  setting: Record<string, unknown>;
  repeats: unknown[];
  summary: S;
}

function read<S>(name: string): Report<S> {
  return JSON.parse(readFileSync(join(DOCS, 'reports', `${name}.json`), 'utf8')) as Report<S>;
}

function source(name: string, report: Report<unknown>): string {
  const { machine } = report;
  return `\`${report.command}\` · [every repeat](reports/${name}.json) · commit ${report.commit}, ${machine.cpu} ${machine.cores} cores, Node ${machine.node}`;
}

interface ClusterSummary {
  engineAlone: { ttftMs: Spread; tokensPerSecond: Spread; gapMs: Spread };
  cluster: { ttftMs: Spread; tokensPerSecond: Spread; gapMs: Spread };
  ratios: { ttft: Spread; tokensPerSecond: Spread };
}

function cluster(name: string): string {
  const report = read<ClusterSummary>(name);
  const { engineAlone, cluster: through, ratios } = report.summary;
  const { model, promptTokens, threads } = report.setting as { model: string; promptTokens: number; threads: number };
  return `### ${model}, prompt of ${promptTokens} tokens, ${threads} thread${threads === 1 ? '' : 's'} per process

| | engine alone | through the cluster | cluster / engine |
| --- | ---: | ---: | ---: |
| time to first token, ms | ${showSpread(engineAlone.ttftMs, 0)} | ${showSpread(through.ttftMs, 0)} | ${showSpread(ratios.ttft)} |
| first to second token (handoff gap), ms | ${showSpread(engineAlone.gapMs, 0)} | ${showSpread(through.gapMs, 0)} | |
| tokens/s after the second | ${showSpread(engineAlone.tokensPerSecond, 0)} | ${showSpread(through.tokensPerSecond, 0)} | ${showSpread(ratios.tokensPerSecond)} |

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
numbers. Shown is the median (least–largest) of the repeats. This page is written by \`node tests/bench/render.ts\` from the raw
reports beside it; each section names the command that makes its report.

## Through the cluster against the engine alone

The engine alone runs in one process with as many threads as a worker has. The cluster is router, prefill worker, NATS and decode worker
as separate processes on the same cores, so prefill, transfer and router compete for them: on two cores this is the worst case, and the
figures below are below what separate machines give.

${cluster('cluster-smollm2-512')}
${cluster('cluster-tiny-moe-512')}
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
## Cost of a cut between graph segments

${segments('segment-cut')}`;

writeFileSync(join(DOCS, 'benchmarks.md'), page);
console.log('wrote docs/benchmarks.md');
