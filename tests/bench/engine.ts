/**
 * One engine against the other on the same file, threads and prompts: prefill and decode at several contexts, and how much is gained by
 * decoding sequences together. Arms are processes that take turns; every ratio is of two measurements that followed each other.
 *   ./causeway bench engine [--model ../shared/models/smollm2-135m-instruct] [--threads 2] [--repeats 5] [--steps 32]
 *     [--contexts 128,512,2048] [--chunk 256] [--patience 0] [--name engine]
 * Where other work disturbs, `--patience SECONDS` (in all) is spent on waiting for quiet and on measuring again what was disturbed; of
 * several tries the least disturbed counts, and every try is in the report with what others did meanwhile.
 */
import { availableParallelism, loadavg } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { type Arm, type ArmSpec, promptOf } from './arms/arm.ts';
import { startArm } from './arms/arm-process.ts';
import { commitHere, flag, showSpread, spread, type Spread, writeReport } from './bench-report.ts';
import { OtherProcesses } from './host-load.ts';
import { modelFile, vocabSizeOf } from './model-file.ts';

const model = flag('model', join(import.meta.dirname, '../../../shared/models/smollm2-135m-instruct'));
const threads = Number(flag('threads', String(availableParallelism())));
const repeats = Number(flag('repeats', '5'));
const steps = Number(flag('steps', '32'));
const contexts = flag('contexts', '128,512,2048').split(',').map(Number);
const chunkTokens = Number(flag('chunk', '256'));
const patienceMs = Number(flag('patience', '0')) * 1000;
/** Cores busy for others up to which a measurement counts as undisturbed, and seconds of waiting for that before each. */
const QUIET_CORES = 0.3;
const QUIET_WAIT_MS = 15_000;
const MOST_TRIES = 4;
/** Of the arm whose threads spin. */
const SPIN_US = 100;
/** Sequences decoded together, and the context of each. */
const TOGETHER = 8;
const TOGETHER_CONTEXT = 128;

const modelPath = modelFile(model);
if (!modelPath.endsWith('.gguf')) throw new Error(`${model} has no .gguf file, which llama.cpp needs`);
const maxContext = Math.max(...contexts, TOGETHER_CONTEXT) + steps + 16;
const commit = commitHere();
const vocabSize = await vocabSizeOf(modelPath);

const common = { modelPath, threads, maxContext, commit };
const causeway = (precision: 'fast' | 'exact', spinUs: number): ArmSpec => ({
  kind: 'causeway',
  ...common,
  causeway: { precision, spinUs, chunkTokens },
});
/** In the order in which they take turns: ours beside the peer's. */
const SPECS = {
  'llama.cpp': { kind: 'llama.cpp', ...common },
  'causeway fast': causeway('fast', 0),
  'llama.cpp, flash attention': { kind: 'llama.cpp', ...common, flashAttention: true },
  'causeway fast, spinning': causeway('fast', SPIN_US),
  'causeway exact': causeway('exact', 0),
} satisfies Record<string, ArmSpec>;
type ArmName = keyof typeof SPECS;
const PEERS: readonly ArmName[] = ['llama.cpp', 'llama.cpp, flash attention'];
/** A single thread has nothing to spin for. */
const FAST: readonly ArmName[] = threads === 1 ? ['causeway fast'] : ['causeway fast', 'causeway fast, spinning'];
const OURS: readonly ArmName[] = [...FAST, 'causeway exact'];

await using stack = new AsyncDisposableStack();
const arms = new Map<ArmName, Required<Arm>>();
for (const [name, spec] of Object.entries(SPECS) as [ArmName, ArmSpec][]) {
  if (OURS.includes(name) || PEERS.includes(name)) arms.set(name, stack.use(await startArm(spec)));
}

interface Observation {
  repeat: number;
  context: number;
  arm: ArmName;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  /** CPU time of the arm's process. */
  prefillCpuMsPerToken: number;
  decodeCpuMsPerToken: number;
  /** Cores that other processes kept busy meanwhile. */
  othersCores: number;
  /** Not the least disturbed of its tries. */
  discarded?: boolean;
}

interface BatchObservation {
  repeat: number;
  arm: ArmName;
  sequences: number;
  tokensPerSecond: number;
  cpuMsPerToken: number;
  othersCores: number;
  discarded?: boolean;
}

const rounded = (value: number): number => Number(value.toPrecision(5));

async function observe(name: ArmName, context: number, repeat: number): Promise<Observation> {
  const arm = arms.get(name) as Required<Arm>;
  const others = new OtherProcesses();
  const { prefillMs, prefillCpuMs, stepMs, stepCpuMs } = await arm.run(promptOf(context, repeat + 2, vocabSize), steps);
  return {
    repeat,
    context,
    arm: name,
    prefillTokensPerSecond: rounded((context / prefillMs) * 1000),
    decodeTokensPerSecond: rounded(1000 / stepMs),
    prefillCpuMsPerToken: rounded(prefillCpuMs / context),
    decodeCpuMsPerToken: rounded(stepCpuMs),
    othersCores: rounded(others.cores()),
  };
}

async function observeBatch(name: ArmName, sequences: number, repeat: number): Promise<BatchObservation> {
  const prompts = Array.from({ length: sequences }, (_, i) => promptOf(TOGETHER_CONTEXT, (repeat + 1) * TOGETHER + i, vocabSize));
  const others = new OtherProcesses();
  const { stepMs, stepCpuMs } = await (arms.get(name) as Required<Arm>).together(prompts, steps);
  return {
    repeat,
    arm: name,
    sequences,
    tokensPerSecond: rounded((sequences * 1000) / stepMs),
    cpuMsPerToken: rounded(stepCpuMs / sequences),
    othersCores: rounded(others.cores()),
  };
}

let patienceLeftMs = patienceMs;

/** Waits for others to be quiet, measures, and measures again while it was disturbed and patience is left. Gives all tries. */
async function patiently<T extends { othersCores: number; discarded?: boolean }>(measure: () => Promise<T>): Promise<T[]> {
  const tries: T[] = [];
  for (;;) {
    const start = performance.now();
    const waitMs = Math.min(QUIET_WAIT_MS, patienceLeftMs);
    while (performance.now() - start < waitMs) {
      const others = new OtherProcesses();
      await wait(500);
      if (others.cores() <= QUIET_CORES) break;
    }
    tries.push(await measure());
    if ((tries.at(-1) as T).othersCores <= QUIET_CORES) break;
    patienceLeftMs -= performance.now() - start;
    if (patienceLeftMs <= 0 || tries.length === MOST_TRIES) break;
  }
  const least = Math.min(...tries.map(({ othersCores }) => othersCores));
  const used = tries.findIndex(({ othersCores }) => othersCores === least);
  return tries.map((one, i) => (i === used ? one : { ...one, discarded: true }));
}

const observations: Observation[] = [];
const batches: BatchObservation[] = [];
// The first round warms every arm up.
for (const name of arms.keys()) await observe(name, Math.min(...contexts), -1);
for (let repeat = 0; repeat < repeats; repeat++) {
  for (const context of contexts) {
    for (const name of arms.keys()) {
      const tries = await patiently(() => observe(name, context, repeat));
      observations.push(...tries);
      for (const value of tries) console.log(JSON.stringify(value));
    }
  }
  for (const sequences of [1, TOGETHER]) {
    for (const name of FAST) {
      const tries = await patiently(() => observeBatch(name, sequences, repeat));
      batches.push(...tries);
      for (const value of tries) console.log(JSON.stringify(value));
    }
  }
}

type Rate = 'prefillTokensPerSecond' | 'decodeTokensPerSecond';
type Cost = 'prefillCpuMsPerToken' | 'decodeCpuMsPerToken';
const valuesOf = (arm: ArmName, context: number, figure: Rate | Cost | 'othersCores'): number[] =>
  observations
    .filter((item) => item.discarded !== true && item.arm === arm && item.context === context)
    .map((item) => item[figure]);
const median = (values: readonly number[]): number => spread(values).median;
const ratios = (ours: readonly number[], peers: readonly number[]): Spread =>
  spread(ours.map((value, i) => value / (peers[i] as number)));

/** Against the better of llama.cpp's two ways of attention, by the median of all rounds; ratios round by round. */
function row(context: number, rate: Rate, cost: Cost) {
  const [first, second] = PEERS as [ArmName, ArmName];
  const peer = median(valuesOf(second, context, rate)) > median(valuesOf(first, context, rate)) ? second : first;
  const peers = valuesOf(peer, context, rate);
  const of = (arm: ArmName) => ({
    arm,
    rate: spread(valuesOf(arm, context, rate)),
    cpuMs: spread(valuesOf(arm, context, cost)),
    othersCores: spread(valuesOf(arm, context, 'othersCores')),
  });
  return {
    context,
    peer: of(peer),
    ours: OURS.map((arm) => ({
      ...of(arm),
      ratio: ratios(valuesOf(arm, context, rate), peers),
      /** llama.cpp's CPU time by ours. */
      cpuRatio: ratios(valuesOf(peer, context, cost), valuesOf(arm, context, cost)),
    })),
  };
}

function batchRow(arm: ArmName) {
  const of = (sequences: number): number[] =>
    batches
      .filter((item) => item.discarded !== true && item.sequences === sequences && item.arm === arm)
      .map((item) => item.tokensPerSecond);
  return { arm, one: spread(of(1)), all: spread(of(TOGETHER)), ratio: ratios(of(TOGETHER), of(1)) };
}

const summary = {
  prefill: contexts.map((context) => row(context, 'prefillTokensPerSecond', 'prefillCpuMsPerToken')),
  decode: contexts.map((context) => row(context, 'decodeTokensPerSecond', 'decodeCpuMsPerToken')),
  together: { sequences: TOGETHER, context: TOGETHER_CONTEXT, rows: FAST.map(batchRow) },
  othersCores: spread(
    [...observations, ...batches].filter(({ discarded }) => discarded !== true).map((item) => item.othersCores),
  ),
};
for (const what of ['prefill', 'decode'] as const) {
  for (const { context, peer, ours } of summary[what]) {
    for (const { arm, ratio, cpuRatio } of ours) {
      console.log(`${what} ${context}: ${arm} / ${peer.arm} ${showSpread(ratio)}, by CPU time ${showSpread(cpuRatio)}`);
    }
  }
}
for (const { arm, ratio } of summary.together.rows) console.log(`${TOGETHER} sequences / one, ${arm}: ${showSpread(ratio)}`);
console.log(`other processes kept ${showSpread(summary.othersCores)} cores busy`);
writeReport(flag('name', 'engine'), {
  command: `./causeway bench engine ${process.argv.slice(2).join(' ')}`.trim(),
  peers: Object.fromEntries([...arms].map(([name, { version }]) => [name, version])),
  setting: {
    model: basename(modelPath),
    threads,
    repeats,
    steps,
    contexts,
    chunkTokens,
    patienceSeconds: patienceMs / 1000,
    loadAverage: loadavg(),
  },
  repeats: [...observations, ...batches],
  summary,
});
