/** The engine's sections of docs/benchmarks.md. */
import { showSpread, spread, type Spread } from './bench-report.ts';
import { has, read, type Report, source } from './report-source.ts';

interface ArmFigures {
  arm: string;
  /** Tokens/s. */
  rate: Spread;
  /** CPU ms per token. */
  cpuMs: Spread;
  othersCores: Spread;
}

interface EngineRow {
  context: number;
  peer: ArmFigures;
  ours: (ArmFigures & { ratio: Spread; cpuRatio: Spread })[];
}

interface EngineSummary {
  prefill: EngineRow[];
  decode: EngineRow[];
  together: { sequences: number; context: number; rows: { arm: string; one: Spread; all: Spread; ratio: Spread }[] };
  othersCores: Spread;
}

function engineTable(rows: readonly EngineRow[]): string {
  const lines = rows.flatMap(({ context, peer, ours }) => [
    `| ${context} | ${peer.arm} | ${showSpread(peer.rate, 0)} | | ${showSpread(peer.cpuMs, 1)} | | ${showSpread(peer.othersCores, 1)} |`,
    ...ours.map(
      ({ arm, rate, ratio, cpuMs, cpuRatio, othersCores }) =>
        `| | ${arm} | ${showSpread(rate, 0)} | ${showSpread(ratio)} | ${showSpread(cpuMs, 1)} | ${showSpread(cpuRatio)} | ${showSpread(othersCores, 1)} |`,
    ),
  ]);
  return `| context | | tokens/s | against llama.cpp | CPU ms per token | llama.cpp's against it | cores busy for others |
| ---: | --- | ---: | ---: | ---: | ---: | ---: |
${lines.join('\n')}`;
}

/** CPU time per token of one sequence by that of several together, round by round. */
function batchCpuRatio(report: Report<EngineSummary>, arm: string, sequences: number): Spread {
  const repeats = report.repeats as { arm: string; sequences?: number; cpuMsPerToken?: number; discarded?: boolean }[];
  const of = (count: number): number[] =>
    repeats
      .filter((one) => one.arm === arm && one.sequences === count && one.discarded !== true)
      .map(({ cpuMsPerToken }) => cpuMsPerToken ?? Number.NaN);
  const together = of(sequences);
  return spread(of(1).map((alone, i) => alone / (together[i] as number)));
}

const ONE_THREAD = ` One thread each, because llama.cpp's threads wait for one another by
spinning: beside other work two of them measure the scheduler.`;

function engine(name: string): string {
  const report = read<EngineSummary>(name);
  const { prefill, decode, together } = report.summary;
  const { model, threads, steps } = report.setting as { model: string; threads: number; steps: number };
  const peers = Object.entries(report.peers).map(([arm, version]) => `- ${arm}: ${version}`);
  const rows = together.rows.map(
    ({ arm, one, all, ratio }) =>
      `| ${arm} | ${showSpread(one, 0)} | ${showSpread(all, 0)} | ${showSpread(ratio)} | ${showSpread(batchCpuRatio(report, arm, together.sequences))} |`,
  );
  const busy = report.summary.othersCores;
  return `${model}, ${threads} thread${threads === 1 ? '' : 's'} each, prompts of tokens without meaning, greedy. A prefill's time ends with its first token; decode is the
median time between ${steps} tokens after a prompt of so many. Of llama.cpp's two ways of attention each row has the faster one.
Other work kept ${showSpread(busy, 1)} of the machine's ${report.machine.cores} cores busy meanwhile (last column): tokens/s are of what was left, and ratios of tokens/s are as
unsteady as that. CPU time per token is what the comparison rests on.${threads === 1 ? ONE_THREAD : ''}

### Prefill, ${threads} thread${threads === 1 ? '' : 's'}

${engineTable(prefill)}

### Decode of one sequence, ${threads} thread${threads === 1 ? '' : 's'}

${engineTable(decode)}

### ${together.sequences} sequences together, ${threads} thread${threads === 1 ? '' : 's'}

| contexts of ${together.context} | one, tokens/s | ${together.sequences}, tokens/s | ratio | ratio by CPU time per token |
| --- | ---: | ---: | ---: | ---: |
${rows.join('\n')}

${peers.join('\n')}

${source(name, report)}
`;
}

interface Operators {
  phase: string;
  ms: number;
  operators: { kind: string; nodes: number; ms: number }[];
}

function operators(name: string): string {
  const report: Report<Operators[]> = read(name);
  const { model, precision, context, chunkTokens } = report.setting as {
    model: string;
    precision: string;
    context: number;
    chunkTokens: number;
  };
  const [decode, chunk] = report.summary;
  const kinds = [...new Set(report.summary.flatMap((phase) => phase.operators.slice(0, 10).map(({ kind }) => kind)))];
  const cell = (phase: Operators | undefined, kind: string): string => {
    const found = phase?.operators.find((one) => one.kind === kind);
    return found === undefined || phase === undefined
      ? ''
      : `${found.ms.toFixed(2)} | ${((100 * found.ms) / phase.ms).toFixed(0)} %`;
  };
  const count = (kind: string): string => String(decode?.operators.find((one) => one.kind === kind)?.nodes ?? '');
  return `| operator | nodes | decode step, ms | | last chunk, ms | |
| --- | ---: | ---: | ---: | ---: | ---: |
${kinds.map((kind) => `| ${kind} | ${count(kind)} | ${cell(decode, kind)} | ${cell(chunk, kind)} |`).join('\n')}
| all | ${decode?.operators.reduce((sum, { nodes }) => sum + nodes, 0)} | ${decode?.ms.toFixed(2)} | | ${chunk?.ms.toFixed(2)} | |

${model}, \`${precision}\`, one thread, context ${context}, chunks of ${chunkTokens} tokens; medians per operator.

${source(name, report)}
`;
}

interface Quality {
  arm: string;
  positions: number;
  agreed: number;
  firm: number;
  firmAgreed: number;
  divergence: Spread & { mean: number };
  /** Mean over the positions of the difference from llama.cpp's divergence, and its standard error. */
  against?: { difference: number; error: number };
}

function quality(name: string): string {
  const report = read<Quality[]>(name);
  const { model, cases } = report.setting as { model: string; cases: number };
  const small = (value: number): string => value.toExponential(1);
  const rows = report.summary.map(({ arm, positions, agreed, firm, firmAgreed, divergence, against }) =>
    [
      '',
      arm,
      `${agreed} of ${positions}`,
      `${firmAgreed} of ${firm}`,
      small(divergence.mean),
      small(divergence.median),
      small(divergence.max),
      against === undefined ? '' : `${small(against.difference)} ± ${small(against.error)}`,
      '',
    ]
      .join(' | ')
      .trim(),
  );
  return `${model} at every position of the reference's ${cases} answers, which each engine is fed: ${report.peers['reference']}. The divergence (KL, nats) is
over the reference's five likeliest tokens and all others as a sixth outcome. The last column is the mean difference from llama.cpp's divergence at the
same positions, with its standard error: where zero is within it, so many positions show no difference.

| | likeliest token is the reference's | of those with a margin above 0.1 | KL: mean | median | largest | against llama.cpp |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

${source(name, report)}
`;
}

/** What was found in the profiles, and what was tried. */
const FINDINGS = `**Decode** is behind llama.cpp by CPU time, more so at long context (aim: 1.2 times as fast at 128 tokens, 1.5 times beyond). It reads every weight
once per step, and the KV of the context. 32 weights take 16 bytes of quants, in ONNX Runtime's packed form 4 of scale and 4 of block sum, and 4
more here for the minimum of Q4_1 (the \`Gemm\`s above), together 28 against llama.cpp's 20; the cache is f32, for which \`GroupQueryAttention\` has its
only exact kernel on CPUs, against f16 there: twice the bytes. The rest are small operators of a few microseconds each. Tried:

- *No padding of lone rows where it is not needed* (taken): 4-bit products had a row of zeros below their input, because some processors' kernels give
  a lone row other bits; now the kernels are tried when a model is loaded (\`packages/models/src/lone-rows.ts\`), and processors with VNNI go without.
  It saves the second row's work and 240 operators per step. Level 0 (\`exact\`) needs the row everywhere, which is why its decode is slow: several
  rows go through a kernel that widens all weights.
- *Q, K and V as one value into attention* (taken): 90 operators fewer per step, the same bits.
- *Threads that spin briefly for more work* (\`CAUSEWAY_SPIN_US\`, off by default): between operators of some tens of µs a sleeping thread wakes too
  late to help, so that a decode worker's second thread gains little. Spinning for 100 µs shortened a step in this machine's few quiet moments and
  gained nothing beside other work; figures need cores that nothing else uses.
- *The scale of attention folded into Q, and attention without its flash kernel*: no gain worth a process-wide switch.

**Prefill** is bound by arithmetic: int8 products, and at long past attention in f32. The flash and the plain kernel of \`GroupQueryAttention\` take
about the same CPU time, in chunks of 64, 256 and 512 tokens.

**Sequences together**: the 8-bit vocabulary product gains little from several rows, and each sequence's attention is its own; the 4-bit products are
what is shared.
`;

interface DeviceSummary {
  chip: string;
  rows: { context: number; sequences: number; figure: string; cpu: Spread; device: Spread; ratio: Spread }[];
}

function device(name: string): string {
  const report = read<DeviceSummary>(name);
  const { chip, rows } = report.summary;
  const setting = report.setting as { model: string; precision: string; device?: string; threads: number };
  const what: Record<string, string> = {
    prefillTokensPerSecond: 'prefill, tokens/s',
    decodeTokensPerSecond: 'decode, tokens/s',
    cpuMsPerToken: 'CPU ms per token of decode',
  };
  const lines = rows.map(({ context, sequences, figure, cpu, device: of, ratio }) => {
    const digits = figure === 'cpuMsPerToken' ? 1 : 0;
    const prompt = sequences === 1 ? `${context}` : `${sequences} × ${context}`;
    return `| ${what[figure]} | ${prompt} | ${showSpread(cpu, digits)} | ${showSpread(of, digits)} | ${showSpread(ratio)} |`;
  });
  return `${setting.model}, precision \`${setting.precision}\`, ${setting.threads} threads; \`${chip}\`: ${setting.device ?? 'not said'}.

| | context | \`cpu\` | \`${chip}\` | ratio |
| --- | ---: | ---: | ---: | ---: |
${lines.join('\n')}

${source(name, report)}
`;
}

const DEVICE_FINDINGS = `A decode step of this small model is bound by the launches of its kernels, not by their work: it keeps a core of the
host busy for 20 to 30 ms, whatever the context. So contexts and batches cost the device nothing yet, and 4-bit weights (\`fast\`), which halve a
step on the CPU, gain nothing on it. Experts inside the worker are slower there than on the CPU: which rows go to which expert is found by
operators that the provider leaves to the CPU, and the device is waited for at each. Expert shards are the way there.
`;

interface WideProduct {
  inputs: number;
  outputs: number;
  rows: number;
  form: 'f32' | 'parts' | 'int8';
  ms: Spread;
  cpuMs: Spread;
  error: number;
}

function wideProducts(name: string): string {
  const report = read<WideProduct[]>(name);
  const { threads } = report.setting as { threads: number };
  const named = { f32: 'f32 weights', parts: 'three int8 parts (`exact`)', int8: 'int8 (`fast`)' };
  const rows = report.summary.map(
    ({ inputs, outputs, rows: count, form, ms, cpuMs, error }) =>
      `| ${inputs} × ${outputs} | ${count} | ${named[form]} | ${showSpread(ms)} | ${showSpread(cpuMs)} | ${error.toExponential(0)} |`,
  );
  return `| inputs × outputs | rows | | ms | CPU ms | error |
| --- | ---: | --- | ---: | ---: | ---: |
${rows.join('\n')}

One product, ${threads} threads; the error is the largest difference from the f64 product, against its largest result.

${source(name, report)}
`;
}

/** All sections, in the page's order. */
export function engineSections(): string {
  return `## The engine against llama.cpp

${engine('engine-1-thread')}
${has('engine-2-threads') ? engine('engine-2-threads') : ''}
## Where the engine's time goes

${operators('operators')}
${operators('operators-2048')}
${FINDINGS}
## Exact products of 8-bit weights

\`exact\` takes inputs apart into three int8 parts per block, which together have f32's bits, and adds up their products by the kernel for
int8 (\`packages/models/src/wide-products.ts\`). Weights stay 8-bit, a quarter of f32, and a lone row, which is bound by reading them, is
computed sooner than with f32 weights; many rows, which are bound by arithmetic, later.

${wideProducts('wide-products')}
## A GPU against the CPU of its machine

The engine on chip family \`webgpu\`, through the GPU's Vulkan driver, beside the engine on \`cpu\`, by turns.

${device('device')}
${device('device-fast')}
${DEVICE_FINDINGS}
## Distance to the float32 reference

${quality('quality')}
`;
}
