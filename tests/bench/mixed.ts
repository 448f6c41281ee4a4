/**
 * Two workers that do both against one prefill and one decode worker, a core each: what the running streams and the newcomers notice when
 * long prompts keep arriving. The same prompts arrive at the same moments (Poisson, open loop) in both arms, which alternate in one run.
 * A worker that does both is a decode worker that prefills its own prompts (placement `local`).
 *   ./causeway bench mixed [--model ../shared/models/smollm2-135m-instruct] [--prompt 2048] [--arrivals 4] [--gap 6000] [--running 4]
 *     [--repeats 3] [--slo-ttft 10000] [--slo-itl 200] [--name mixed-2048]
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { type Cluster, startCluster } from '@causeway/testkit';
import { clockMs, type StreamedAnswer, streamAnswer } from './arms/stream-answer.ts';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';
import { OtherProcesses } from './host-load.ts';

const model = flag('model', '../shared/models/smollm2-135m-instruct');
const promptTokens = Number(flag('prompt', '2048'));
const arrivals = Number(flag('arrivals', '4'));
const gapMs = Number(flag('gap', '6000'));
const running = Number(flag('running', '4'));
const repeats = Number(flag('repeats', '3'));
const slo = { ttftMs: Number(flag('slo-ttft', '10000')), itlMs: Number(flag('slo-itl', '200')) };
const modelName = basename(model);
/** Of a newcomer. */
const ANSWER = 8;

using checkpoint = await openCheckpoint(model);
if (checkpoint.tokenizerSource === undefined) throw new Error(`${model} has no tokenizer`);
const prose = loadTokenizer(checkpoint.tokenizerSource).encode(
  readFileSync(join(import.meta.dirname, '../../docs/architecture.md'), 'utf8').repeat(4),
);

const ARMS = { both: { prefill: 0, decode: 2 }, disaggregated: { prefill: 1, decode: 1 } } as const;
type ArmName = keyof typeof ARMS;

/** A cluster whose two workers have a core each; the rest runs where there is room. */
async function startArm(name: ArmName): Promise<Cluster> {
  const cluster = await startCluster({
    model,
    modelName,
    router: true,
    ...ARMS[name],
    workerEnv: {
      CAUSEWAY_THREADS: '1',
      CAUSEWAY_MAX_CONTEXT: String(Math.max(promptTokens + 64, 2048)),
      CAUSEWAY_MAX_SEQUENCES: '8',
      CAUSEWAY_KV_BUDGET_BYTES: String(3 * 1024 ** 3),
    },
  });
  for (const [core, { process: worker }] of cluster.workers.entries())
    execFileSync('taskset', ['-a', '-c', '-p', String(core), String(worker.pid)], { stdio: 'ignore' });
  return cluster;
}

interface Observation {
  /** Between two tokens of a running stream, while newcomers came or were answered, ms. */
  itlP50: number;
  itlP99: number;
  itlLargest: number;
  /** Share of these within the SLO. */
  itlGood: number;
  /** Of newcomers. */
  ttftP50: number;
  ttftLargest: number;
  /** Newcomers whose first token came within the SLO, per second. */
  goodput: number;
  /** Tokens per second of all running streams. */
  runningTokensPerSecond: number;
  othersCores: number;
}

/** The same waits before each arrival in both arms, exponentially distributed. */
function waits(repeat: number): number[] {
  let state = Math.imul(repeat + 7, 0x9e37_79b9) >>> 0;
  return Array.from({ length: arrivals }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return -Math.log((state + 1) / 2 ** 32) * gapMs;
  });
}

const quantile = (values: readonly number[], share: number): number => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
};

async function observe(arm: ArmName, { router: { http } }: Cluster, repeat: number): Promise<Observation> {
  const placement = arm === 'both' ? 'local' : 'disaggregated';
  const base = { model: modelName, temperature: 0, ignore_eos: true, causeway: { placement } };
  const ended = new AbortController();
  const moments = Array.from({ length: running }, (): number[] => []);
  const streams = moments.map((times, i) => {
    const begun = Promise.withResolvers<void>();
    const body = { ...base, prompt: prose.slice(i * 40, i * 40 + 32), max_tokens: 1900 };
    const onToken = (): void => {
      if (times.push(clockMs()) === 5) begun.resolve();
    };
    const done = streamAnswer(http, body, { signal: ended.signal, onToken }).catch((error: unknown) => {
      if (!ended.signal.aborted) begun.reject(error);
    });
    return { begun: begun.promise, done };
  });
  await Promise.all(streams.map(({ begun }) => begun));
  const others = new OtherProcesses();
  const start = clockMs();
  const newcomers: Promise<StreamedAnswer>[] = [];
  for (const [i, wait] of waits(repeat).entries()) {
    if (i > 0) await sleep(wait);
    const from = 300 + ((repeat + 1) * 7 + i) * 61;
    newcomers.push(streamAnswer(http, { ...base, prompt: prose.slice(from, from + promptTokens), max_tokens: ANSWER }));
  }
  const answers = await Promise.all(newcomers);
  const end = clockMs();
  const othersCores = others.cores();
  ended.abort(new Error('measured'));
  await Promise.all(streams.map(({ done }) => done));
  const gaps = moments.flatMap((times) =>
    times.flatMap((at, i) => (at >= start && i > 0 ? [at - (times[i - 1] as number)] : [])),
  );
  const ttft = answers.map(({ startMs, times }) => (times[0] as number) - startMs);
  return {
    itlP50: quantile(gaps, 0.5),
    itlP99: quantile(gaps, 0.99),
    itlLargest: Math.max(...gaps),
    itlGood: gaps.filter((gap) => gap <= slo.itlMs).length / gaps.length,
    ttftP50: quantile(ttft, 0.5),
    ttftLargest: Math.max(...ttft),
    goodput: (ttft.filter((time) => time <= slo.ttftMs).length / (end - start)) * 1000,
    runningTokensPerSecond: (gaps.length / (end - start)) * 1000,
    othersCores,
  };
}

await using both = await startArm('both');
await using disaggregated = await startArm('disaggregated');
const clusters = { both, disaggregated };
const observations: { arm: ArmName; repeat: number; value: Observation }[] = [];
for (let repeat = 0; repeat < repeats; repeat++) {
  for (const arm of ['both', 'disaggregated'] as const) {
    const value = await observe(arm, clusters[arm], repeat);
    observations.push({ arm, repeat, value });
    console.log(arm, repeat, JSON.stringify(value));
  }
}
const keys = Object.keys(observations[0]?.value ?? {}) as (keyof Observation)[];
const of = (arm: ArmName) => {
  const values = observations.filter((one) => one.arm === arm).map(({ value }) => value);
  return Object.fromEntries(keys.map((key) => [key, spread(values.map((value) => value[key]))]));
};
const summary = { both: of('both'), disaggregated: of('disaggregated') };
for (const key of keys)
  console.log(`${key}: both ${showSpread(summary.both[key]!)}, disaggregated ${showSpread(summary.disaggregated[key]!)}`);
writeReport(flag('name', `mixed-${promptTokens}`), {
  command: `./causeway bench mixed ${process.argv.slice(2).join(' ')}`.trim(),
  peers: { both: 'two decode workers that prefill their own prompts, same commit' },
  setting: { model: modelName, promptTokens, arrivals, gapMs, running, repeats, slo, threads: 1, precision: 'fast' },
  repeats: observations,
  summary,
});
