/** The sections of docs/benchmarks.md on KV that travels. */
import { showSpread, type Spread } from './bench-report.ts';
import type { BreakEvenRow } from './break-even.ts';
import { read, source } from './report-source.ts';
import type { TransferRow } from './transfer.ts';

const FIXED = ['none', 'zstd', 'planes+zstd'] as const;

interface PolicyRow {
  dtype: string;
  mbits: number;
  arms: Record<'none' | 'zstd' | 'planes+zstd' | 'auto', Spread>;
  chosen: (typeof FIXED)[number];
  leastRatio: number;
}

/** Codec policy against fixed codecs; times are those of each arm's rounds. */
export function codecPolicy(name: string): string {
  const report = read<PolicyRow[]>(name);
  const { model, tokens } = report.setting as { model: string; tokens: number };
  const rows = report.summary.map(
    ({ dtype, mbits, arms, chosen, leastRatio }) =>
      `| ${dtype} | ${mbits} | ${showSpread(arms.none, 0)} | ${showSpread(arms.zstd, 0)} | ${showSpread(arms['planes+zstd'], 0)} | ` +
      `${showSpread(arms.auto, 0)} | ${chosen} | ${(arms[chosen].min / Math.min(...FIXED.map((codec) => arms[codec].min))).toFixed(2)} | ${leastRatio.toFixed(2)} |`,
  );
  return `| pages | Mbit/s | \`none\`, ms | \`zstd\`, ms | \`planes+zstd\`, ms | \`auto\`, ms | chosen | that codec / the fastest | \`auto\` / the fastest |
| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |
${rows.join('\n')}

${model}, KV of ${tokens} tokens of prose; from the first offer to the commit. The last two columns compare the least times: what others do on the
machine only adds. The first of them is the choice itself, the second also what trying other codecs costs.

${source(name, report)}
`;
}

interface CodecRow {
  dtype: string;
  codec: string;
  ratio: number;
  encode: Spread;
  decode: Spread;
}

/** What codecs do on KV of a real model. */
export function codecs(name: string): string {
  const report = read<CodecRow[]>(name);
  const { model, tokens } = report.setting as { model: string; tokens: number };
  const rows = report.summary.map(
    ({ dtype, codec, ratio, encode, decode }) =>
      `| ${dtype} | ${codec} | ${ratio.toFixed(3)} | ${showSpread(encode)} | ${showSpread(decode)} |`,
  );
  return `| numbers | codec | ratio | encode, GB/s | decode, GB/s |
| --- | --- | ---: | ---: | ---: |
${rows.join('\n')}

${model}, KV of ${tokens} tokens of prose.

${source(name, report)}
`;
}

/** Every pair of families under every codec. */
export function transfers(name: string): string {
  const report = read<TransferRow[]>(name);
  const { model, tokens, storages } = report.setting as { model: string; tokens: number; storages: Record<string, string> };
  const rows = report.summary.map(
    (row) =>
      `| ${row.from} | ${row.to} | ${row.wire}${row.lossless ? '' : ', rounded'} | ${row.codec} | ${row.ratio.toFixed(2)} | ${showSpread(row.gigabytesPerSecond, 3)} | ` +
      `${showSpread(row.msPer1000, 0)} | ${row.senderCpuPer1000.median.toFixed(0)} + ${row.receiverCpuPer1000.median.toFixed(0)} | ${(100 * row.shareOfTtft.median).toFixed(0)} % |`,
  );
  const stored = Object.entries(storages).map(([chip, storage]) => `${chip} ${storage}`);
  return `| from | to | on the wire | codec | ratio | GB/s | ms per 1,000 tokens | processor ms per 1,000 tokens, sender + receiver | share of TTFT |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

${model}, ${tokens} tokens of prose. Pages: ${stored.join(', ')}.

${source(name, report)}
`;
}

interface BreakEvenSummary {
  mbits: number;
  fixedMs: number;
  rows: BreakEvenRow[];
  breakEven: { mbits: number; tokens?: number }[];
  measured?: number;
}

/** From which prompt length a prefill worker pays. */
export function breakEven(name: string): string {
  const report = read<BreakEvenSummary>(name);
  const { mbits, fixedMs, rows, breakEven: predicted, measured } = report.summary;
  const { model, kvDtype } = report.setting as { model: string; kvDtype: string };
  const lines = rows.map(
    ({ tokens, pauseMs, localGapMs, disaggregatedGapMs, waitMs, predictedWaitMs }) =>
      `| ${tokens} | ${showSpread(localGapMs, 0)} | ${showSpread(disaggregatedGapMs, 0)} | ${waitMs.toFixed(0)} | ${predictedWaitMs.toFixed(0)} | ${showSpread(pauseMs, 0)} |`,
  );
  const said = (tokens: number | undefined): string => (tokens === undefined ? 'no length tried' : `${tokens.toFixed(0)} tokens`);
  const others = predicted.map(({ mbits: rate, tokens }) => `${rate} Mbit/s ${said(tokens)}`);
  return `| prompt tokens | first to second token, ms: local | after a transfer | wait, by the medians | predicted | pause of running answers, ms |
| ---: | ---: | ---: | ---: | ---: | ---: |
${lines.join('\n')}

${model}, ${kvDtype} pages, a link of ${mbits} Mbit/s; a handoff without any link to wait for takes ${fixedMs.toFixed(0)} ms. By the medians it pays from ${said(measured)} on.
Predicted: ${others.join(', ')}.

${source(name, report)}
`;
}
