/**
 * One chip family against the CPU of the same machine, on the same file and prompts: prefill, decode, sequences decoded together. Arms are
 * processes that take turns.
 *   ./causeway bench device [--chip webgpu] [--model ../shared/models/smollm2-135m-instruct] [--precision exact] [--threads 2]
 *     [--repeats 5] [--steps 32] [--contexts 128,512,2048] [--chunk 512] [--name device]
 */
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { type Arm, type ArmSpec, promptOf } from './arms/arm.ts';
import { startArm } from './arms/arm-process.ts';
import { commitHere, flag, showSpread, spread, writeReport } from './bench-report.ts';
import { modelFile, vocabSizeOf } from './model-file.ts';

const model = flag('model', join(import.meta.dirname, '../../../shared/models/smollm2-135m-instruct'));
const chip = flag('chip', 'webgpu');
const precision = flag('precision', 'exact') === 'fast' ? 'fast' : 'exact';
const threads = Number(flag('threads', String(availableParallelism())));
const repeats = Number(flag('repeats', '5'));
const steps = Number(flag('steps', '32'));
const contexts = flag('contexts', '128,512,2048').split(',').map(Number);
const chunkTokens = Number(flag('chunk', '512'));
const TOGETHER = 8;
const TOGETHER_CONTEXT = 128;

const modelPath = modelFile(model);
const vocabSize = await vocabSizeOf(modelPath);

const spec = (family: string): ArmSpec => ({
  kind: 'causeway',
  modelPath,
  threads,
  maxContext: Math.max(...contexts, TOGETHER_CONTEXT) + steps + 16,
  commit: commitHere(),
  causeway: { chip: family, precision, spinUs: 0, chunkTokens },
});
await using stack = new AsyncDisposableStack();
const arms = new Map<string, Required<Arm>>();
for (const family of ['cpu', chip]) arms.set(family, stack.use(await startArm(spec(family))));

interface Observation {
  repeat: number;
  arm: string;
  /** Tokens of the prompt; of the sequences decoded together each. */
  context: number;
  sequences: number;
  prefillTokensPerSecond?: number;
  decodeTokensPerSecond: number;
  /** CPU time of the arm's process. */
  cpuMsPerToken: number;
}

const rounded = (value: number): number => Number(value.toPrecision(5));

async function alone(name: string, context: number, repeat: number): Promise<Observation> {
  const prompt = promptOf(context, repeat + 2, vocabSize);
  const { prefillMs, stepMs, stepCpuMs } = await (arms.get(name) as Required<Arm>).run(prompt, steps);
  return {
    repeat,
    arm: name,
    context,
    sequences: 1,
    prefillTokensPerSecond: rounded((context / prefillMs) * 1000),
    decodeTokensPerSecond: rounded(1000 / stepMs),
    cpuMsPerToken: rounded(stepCpuMs),
  };
}

async function together(name: string, repeat: number): Promise<Observation> {
  const prompts = Array.from({ length: TOGETHER }, (_, i) => promptOf(TOGETHER_CONTEXT, (repeat + 2) * TOGETHER + i, vocabSize));
  const { stepMs, stepCpuMs } = await (arms.get(name) as Required<Arm>).together(prompts, steps);
  return {
    repeat,
    arm: name,
    context: TOGETHER_CONTEXT,
    sequences: TOGETHER,
    decodeTokensPerSecond: rounded((TOGETHER * 1000) / stepMs),
    cpuMsPerToken: rounded(stepCpuMs / TOGETHER),
  };
}

const observations: Observation[] = [];
// Repeat −1 warms up: a device compiles its kernels when it first meets them.
for (let repeat = -1; repeat < repeats; repeat++) {
  for (const name of arms.keys()) {
    const round = [];
    for (const context of contexts) round.push(await alone(name, context, repeat));
    round.push(await together(name, repeat));
    for (const one of round) console.log(JSON.stringify(one));
    if (repeat >= 0) observations.push(...round);
  }
}

type Figure = 'prefillTokensPerSecond' | 'decodeTokensPerSecond' | 'cpuMsPerToken';
function row(context: number, sequences: number, figure: Figure) {
  const of = (arm: string): number[] =>
    observations
      .filter((one) => one.arm === arm && one.context === context && one.sequences === sequences)
      .map((one) => one[figure] ?? Number.NaN);
  const cpu = of('cpu');
  const ratio = of(chip).map((value, i) => value / (cpu[i] as number));
  return { context, sequences, figure, cpu: spread(cpu), device: spread(of(chip)), ratio: spread(ratio) };
}

const summary = {
  chip,
  rows: [
    ...contexts.map((context) => row(context, 1, 'prefillTokensPerSecond')),
    ...contexts.map((context) => row(context, 1, 'decodeTokensPerSecond')),
    row(TOGETHER_CONTEXT, TOGETHER, 'decodeTokensPerSecond'),
    row(Math.min(...contexts), 1, 'cpuMsPerToken'),
  ],
};
for (const { context, sequences, figure, ratio } of summary.rows) {
  console.log(`${figure}, ${sequences} × ${context}: ${chip} / cpu ${showSpread(ratio)}`);
}
writeReport(flag('name', 'device'), {
  command: `./causeway bench device ${process.argv.slice(2).join(' ')}`.trim(),
  peers: Object.fromEntries([...arms].map(([name, { version }]) => [name, version])),
  setting: {
    model: basename(modelPath),
    chip,
    device: process.env['CAUSEWAY_BENCH_DEVICE'],
    precision,
    threads,
    repeats,
    steps,
    contexts,
    chunkTokens,
  },
  repeats: observations,
  summary,
});
