/**
 * Through the cluster against the engine alone, alternating in one run: TTFT, tokens/s of one stream or of several, and the handoff gap.
 * The engine alone runs in this process with as many threads as a worker has; both arms get the same prompts.
 *   node tests/bench/cluster.ts [--model models/tiny-moe] [--prompt 512] [--tokens 64] [--streams 1] [--repeats 5] [--threads 2]
 *     [--name cluster-tiny-moe]
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Generation } from '@causeway/engine';
import { loadTokenizer, openCheckpoint, type Tokenizer } from '@causeway/model-files';
import { startCluster } from '@causeway/testkit';
import { loadEngine } from '@causeway/worker-runtime';
import { clockMs, streamAnswer } from './arms/stream-answer.ts';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';
import { cpuSeconds, OtherProcesses } from './host-load.ts';

const model = flag('model', 'models/tiny-moe');
const promptTokens = Number(flag('prompt', '512'));
const tokens = Number(flag('tokens', '64'));
const streams = Number(flag('streams', '1'));
const repeats = Number(flag('repeats', '5'));
const threads = Number(flag('threads', '2'));
const modelName = basename(model);
const maxContext = promptTokens + tokens + 16;

interface Observation {
  /** Of several streams the median. */
  ttftMs: number;
  /** First to second token; of several streams the median. */
  gapMs: number;
  /** Of all streams together, while all of them are decoded: from the last one's second token to the first one's end. */
  tokensPerSecond: number;
  tokens: number;
  /** Of the engine's process, or of all of the cluster's, for each token of the answers, the prompts' share included. */
  cpuMsPerToken: number;
  othersCores: number;
}

/** One answer, moments in ms since the request. */
interface Answer {
  firstMs: number;
  secondMs: number;
  tokens: number;
  /** When text came; as often as tokens, but where several make a character. */
  times: readonly number[];
}

function observation(answers: readonly Answer[], cpuMs: number, othersCores: number): Observation {
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0);
  const begin = Math.max(...answers.map(({ secondMs }) => secondMs));
  const end = Math.min(...answers.map(({ times }) => times.at(-1) ?? 0));
  if (end <= begin) throw new Error('the first stream ended before the last one began: give more --tokens');
  const during = answers.map(({ tokens: all, times }) => {
    return (all * times.filter((time) => time > begin && time <= end).length) / times.length;
  });
  return {
    ttftMs: spread(answers.map(({ firstMs }) => firstMs)).median,
    gapMs: spread(answers.map(({ firstMs, secondMs }) => secondMs - firstMs)).median,
    tokensPerSecond: (during.reduce((sum, count) => sum + count, 0) / (end - begin)) * 1000,
    tokens,
    cpuMsPerToken: cpuMs / tokens,
    othersCores,
  };
}

/** Prose of this repository, from another place each time. */
const prose = readFileSync(join(import.meta.dirname, '../../docs/architecture.md'), 'utf8').repeat(4);

function promptIds(tokenizer: Tokenizer, repeat: number, stream: number): number[] {
  return tokenizer.encode(prose.slice(repeat * 97 + stream * 31)).slice(0, promptTokens);
}

const maxSequences = Math.max(4, streams);

await using loaded = await loadEngine({
  modelPath: model,
  chip: 'cpu',
  threads,
  precision: 'fast',
  kvBudgetBytes: 4 * 1024 ** 3,
  maxContext,
  maxSequences,
  chunkTokens: 256,
});
const { engine } = loaded;
using checkpoint = await openCheckpoint(model);
if (checkpoint.tokenizerSource === undefined) throw new Error(`${model} has no tokenizer`);
const tokenizer = loadTokenizer(checkpoint.tokenizerSource);
await using cluster = await startCluster({
  model,
  modelName,
  router: true,
  workerEnv: {
    CAUSEWAY_THREADS: String(threads),
    CAUSEWAY_MAX_CONTEXT: String(maxContext),
    CAUSEWAY_MAX_SEQUENCES: String(maxSequences),
    CAUSEWAY_KV_BUDGET_BYTES: String(4 * 1024 ** 3),
    CAUSEWAY_LOG_LEVEL: 'info',
  },
});

async function alone(ids: readonly number[]): Promise<Answer> {
  const generation: Generation = {
    promptIds: Uint32Array.from(ids),
    replayIds: new Uint32Array(0),
    maxTokens: tokens,
    stopTokenIds: [],
    ignoreEos: true,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
  };
  const { signal } = new AbortController();
  const start = clockMs();
  const times: number[] = [];
  using pages = await engine.reserve(engine.room(generation), signal);
  const { first } = await engine.prefill(generation, pages, signal);
  times.push(clockMs() - start);
  for await (const _token of engine.decode(generation, pages, first, signal)) times.push(clockMs() - start);
  const [firstMs = 0, secondMs = 0] = times;
  return { firstMs, secondMs, tokens: times.length, times };
}

async function throughCluster(ids: readonly number[]): Promise<Answer> {
  const body = { model: modelName, prompt: ids, max_tokens: tokens, temperature: 0, ignore_eos: true };
  const { startMs, times, usage } = await streamAnswer(cluster.router.http, body);
  if (usage.causeway.outcome !== 'used') throw new Error(`the KV was ${usage.causeway.outcome}`);
  const since = times.map((time) => time - startMs);
  const firstMs = since[0] ?? 0;
  return { firstMs, secondMs: firstMs + usage.causeway.handoff_gap_ms, tokens: usage.completion_tokens, times: since };
}

/** CPU time that an arm's processes have used so far, ms; NATS and Redis are left out. */
function cpuOf(arm: string): number {
  const { user, system } = process.cpuUsage();
  if (arm === 'engine alone') return (user + system) / 1000;
  const processes = [cluster.router, ...cluster.workers].map(({ process: { pid } }) => pid);
  return processes.reduce((sum, pid) => sum + cpuSeconds(pid) * 1000, 0);
}

const observations: { arm: string; repeat: number; value: Observation }[] = [];
for (let repeat = -1; repeat < repeats; repeat++) {
  const prompts = Array.from({ length: streams }, (_, stream) => promptIds(tokenizer, repeat + 2, stream));
  for (const [arm, run] of [
    ['engine alone', alone],
    ['cluster', throughCluster],
  ] as const) {
    const others = new OtherProcesses();
    const cpuMs = cpuOf(arm);
    const answers = await Promise.all(prompts.map((ids) => run(ids)));
    const value = observation(answers, cpuOf(arm) - cpuMs, others.cores());
    // The first round warms both arms up.
    if (repeat >= 0) observations.push({ arm, repeat, value });
    console.log(arm, repeat, JSON.stringify(value));
  }
}
const of = (arm: string, key: keyof Observation): number[] =>
  observations.filter((item) => item.arm === arm).map((item) => item.value[key]);
const ratio = (key: keyof Observation): number[] =>
  of('cluster', key).map((value, i) => value / (of('engine alone', key)[i] as number));
const summary = {
  engineAlone: {
    ttftMs: spread(of('engine alone', 'ttftMs')),
    tokensPerSecond: spread(of('engine alone', 'tokensPerSecond')),
    gapMs: spread(of('engine alone', 'gapMs')),
    cpuMsPerToken: spread(of('engine alone', 'cpuMsPerToken')),
  },
  cluster: {
    ttftMs: spread(of('cluster', 'ttftMs')),
    tokensPerSecond: spread(of('cluster', 'tokensPerSecond')),
    gapMs: spread(of('cluster', 'gapMs')),
    cpuMsPerToken: spread(of('cluster', 'cpuMsPerToken')),
  },
  ratios: {
    ttft: spread(ratio('ttftMs')),
    tokensPerSecond: spread(ratio('tokensPerSecond')),
    cpuPerToken: spread(ratio('cpuMsPerToken')),
  },
  othersCores: spread(observations.map(({ value }) => value.othersCores)),
};

for (const [name, value] of Object.entries(summary.ratios)) console.log(`cluster / engine alone, ${name}: ${showSpread(value)}`);
writeReport(flag('name', `cluster-${modelName}-${promptTokens}`), {
  command: `node tests/bench/cluster.ts ${process.argv.slice(2).join(' ')}`.trim(),
  peers: { 'engine alone': 'packages/engine in one process, same commit' },
  setting: { model: modelName, promptTokens, tokens, streams, repeats, threads, precision: 'fast' },
  repeats: observations,
  summary,
});
