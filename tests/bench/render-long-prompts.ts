/** Sections of docs/benchmarks.md about transfers of long prompts. */
import { showSpread, type Spread } from './bench-report.ts';
import { read, source } from './report-source.ts';

interface OverlapSummary {
  tailMs: Spread;
  transferMs: Spread;
  share: Spread;
}

function overlap(names: readonly string[]): string {
  const rows = names.map((name) => {
    const { setting, summary } = read<OverlapSummary>(name);
    const {
      model,
      promptTokens,
      from,
      to,
      fromLayout = '',
      toLayout = '',
    } = setting as {
      model: string;
      promptTokens: number;
      from: string;
      to: string;
      fromLayout?: string;
      toLayout?: string;
    };
    const ends = `${`${from} ${fromLayout}`.trim()} to ${`${to} ${toLayout}`.trim()}`;
    return `| ${model}, ${promptTokens} tokens, ${ends} | ${showSpread(summary.transferMs, 0)} | ${showSpread(summary.tailMs, 0)} | ${showSpread(summary.share, 3)} |`;
  });
  return `| | first frame to commit, ms | of it after prefill, ms | share |
| --- | ---: | ---: | ---: |
${rows.join('\n')}

${names.map((name) => source(name, read(name))).join('\n\n')}
`;
}

interface LongContextSummary {
  tokens: number;
  rawBytes: number;
  parts: number;
  resentParts: number;
  seconds: number;
  senderIdle: number;
  receiverIdle: number;
  senderAboveIdle: number;
  receiverAboveIdle: number;
  killedAt: number;
}

function longContext(name: string): string {
  const report = read<LongContextSummary>(name);
  const { tokens, rawBytes, parts, resentParts, seconds, killedAt } = report.summary;
  const { senderIdle, receiverIdle, senderAboveIdle, receiverAboveIdle } = report.summary;
  const mib = (bytes: number) => (bytes / 1024 ** 2).toFixed(0);
  return `| | |
| --- | ---: |
| tokens | ${tokens} |
| raw bytes | ${(rawBytes / 1e9).toFixed(2)} GB in ${parts} parts |
| server killed at | ${(killedAt / 1e9).toFixed(2)} GB |
| parts sent again | ${resentParts} |
| first offer to commit | ${seconds.toFixed(0)} s |
| sender, idle and above it at its highest | ${mib(senderIdle)} and ${mib(senderAboveIdle)} MiB |
| receiver | ${mib(receiverIdle)} and ${mib(receiverAboveIdle)} MiB |

${source(name, report)}
`;
}

export function longPromptSections(): string {
  return `## What is left of a transfer when the prompt is computed

KV leaves while later chunks of the prompt compute. From the end of prefill to the commit, as a share of the whole transfer: the aim is
0.15. Router, both workers and NATS shared two cores with other work: the times are those of a busy machine, the share is what counts.
From HND to NZ both ends convert, each block as it is computed or has arrived.

${overlap([
  'overlap-tiny-moe-cpu-cpu',
  'overlap-smollm2-135m-instruct-cpu-cpu',
  'overlap-smollm2-135m-instruct-nvidia-ascend',
  'overlap-smollm2-135m-instruct-nvidia-hnd-ascend-nz',
])}
## A million tokens

A synthetic transfer with the geometry of DeepSeek-V4-Flash (43 layers, bf16 entries, windows and f32 states), between two processes, the
NATS server killed and started again in the middle. Both ends keep their objects in 24 pages, many in the same bytes, so that what is
measured is what a transfer needs beyond the pages; the pages are compared at the end, and the digest covers every part. Idle is the process with its endpoint and
written pages. The aim is 512 MiB above idle. The time is that of a machine whose two cores were busy with other work all the while.

${longContext('long-context')}`;
}
