/**
 * What the router adds to a token's way: from a worker's sending it to a client's having it, through the router and by the workers' own
 * gRPC, alternating in one run. The engine is scripted: in each step of a decode worker all its streams are given a token.
 *   ./causeway bench router [--streams 64] [--workers 8] [--tokens 100] [--pace 50] [--repeats 5] [--name router]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createChannelPool } from '@causeway/rpc';
import { runAttempt, startProcess, startRedis } from '@causeway/testkit';
import type { SentTimes } from './arms/mock-workers.ts';
import { clockMs, streamAnswer } from './arms/stream-answer.ts';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';
import { cpuSeconds, OtherProcesses } from './host-load.ts';

const streams = Number(flag('streams', '64'));
const decoders = Number(flag('workers', '8'));
const tokens = Number(flag('tokens', '100'));
const paceMs = Number(flag('pace', '50'));
const repeats = Number(flag('repeats', '5'));
const PROMPT = Array.from({ length: 32 }, (_, i) => i + 6);

/** When a client had the tokens of one answer, by position. */
interface Received {
  requestId: string;
  startMs: number;
  times: number[];
}

interface Observation {
  /** From a token's leaving the worker to the client's having it, ms; of tokens after the first. */
  p50: number;
  p99: number;
  largest: number;
  /** From the request to the first token, ms. */
  firstP50: number;
  firstP99: number;
  tokens: number;
  /** Of the router's process for each token, request and all. */
  routerCpuUs: number;
  othersCores: number;
}

await using redis = await startRedis();
const root = join(import.meta.dirname, '../..');
const workers: ChildProcess = fork(join(import.meta.dirname, 'arms/mock-workers.ts'), [
  redis.url,
  String(tokens),
  String(paceMs),
  String(decoders),
]);
using _workers = { [Symbol.dispose]: () => void workers.kill('SIGKILL') };
const [{ prefill, decode }] = (await once(workers, 'message')) as [{ prefill: string; decode: string[] }];
await using router = startProcess({
  script: join(root, 'services/router/src/main.ts'),
  nodeArgs: ['--cpu-prof','--cpu-prof-dir=/tmp/h/engine/prof','--cpu-prof-interval=200'],
  env: {
    CAUSEWAY_REDIS_URL: redis.url,
    CAUSEWAY_MODEL_PATH: join(root, 'models/tiny-moe'),
    CAUSEWAY_HTTP_PORT: '0',
    CAUSEWAY_GRPC_PORT: '0',
    CAUSEWAY_LOCAL_PREFILL_TOKENS: '0',
    CAUSEWAY_MAX_QUEUE: String(streams),
  },
});
const ready = await router.waitForLog((line) => line['msg'] === 'ready', 30_000);
const http = String(ready['http']);
using channels = createChannelPool();

const throughRouter = (): Promise<Received> =>
  streamAnswer(http, { model: 'tiny-moe', prompt: PROMPT, max_tokens: tokens, ignore_eos: true });

let directCount = 0;
async function direct(): Promise<Received> {
  const startMs = clockMs();
  const address = decode[directCount % decode.length] as string;
  const requestId = `direct-${directCount++}`;
  const times: number[] = [];
  await runAttempt({
    channels,
    model: 'tiny-moe',
    prefill,
    decode: address,
    requestId,
    generation: { promptIds: PROMPT, maxTokens: tokens, ignoreEos: true },
    onEvent: ({ event }) => {
      if (event?.$case === 'firstToken' || event?.$case === 'token') times[event.value.position] ??= clockMs();
    },
  });
  return { requestId, startMs, times };
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

async function observe(run: () => Promise<Received>): Promise<Observation> {
  const others = new OtherProcesses();
  const cpu = cpuSeconds(router.pid);
  const received = await Promise.all(Array.from({ length: streams }, run));
  const othersCores = others.cores();
  const routerCpuUs = ((cpuSeconds(router.pid) - cpu) / (streams * tokens)) * 1e6;
  workers.send('times');
  const [sent] = (await once(workers, 'message')) as [SentTimes];
  const latencies: number[] = [];
  for (const { requestId, times } of received) {
    const left = sent[requestId] ?? [];
    if (times.length !== tokens || left.length !== tokens)
      throw new Error(`request ${requestId}: ${left.length} tokens left the worker and ${times.length} came, not ${tokens}`);
    for (let i = 1; i < tokens; i++) latencies.push((times[i] as number) - (left[i] as number));
  }
  const sorted = latencies.toSorted((a, b) => a - b);
  const firsts = received.map(({ startMs, times }) => (times[0] as number) - startMs).toSorted((a, b) => a - b);
  return {
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    largest: sorted.at(-1) as number,
    firstP50: quantile(firsts, 0.5),
    firstP99: quantile(firsts, 0.99),
    tokens: latencies.length,
    routerCpuUs,
    othersCores,
  };
}

const ARMS = { direct, router: throughRouter };
const observations: { arm: keyof typeof ARMS; repeat: number; value: Observation }[] = [];
for (let repeat = -1; repeat < repeats; repeat++) {
  for (const arm of ['direct', 'router'] as const) {
    const value = await observe(ARMS[arm]);
    console.log(arm, repeat, JSON.stringify(value));
    // The first round warms both arms up.
    if (repeat >= 0) observations.push({ arm, repeat, value });
  }
}
const of = (arm: keyof typeof ARMS, key: keyof Observation): number[] =>
  observations.filter((one) => one.arm === arm).map(({ value }) => value[key]);
const keys = ['p50', 'p99', 'largest', 'firstP50', 'firstP99', 'routerCpuUs', 'othersCores'] as const;
const summarise = (values: (key: (typeof keys)[number]) => number[]) =>
  Object.fromEntries(keys.map((key) => [key, spread(values(key))]));
const added = (key: keyof Observation): number[] => of('router', key).map((value, i) => value - (of('direct', key)[i] as number));
const summary = {
  direct: summarise((key) => of('direct', key)),
  router: summarise((key) => of('router', key)),
  added: summarise(added),
};
for (const key of ['p50', 'p99'] as const) console.log(`added ${key}, ms: ${showSpread(spread(added(key)))}`);
writeReport(flag('name', 'router'), {
  command: `./causeway bench router ${process.argv.slice(2).join(' ')}`.trim(),
  peers: { direct: "the workers' own gRPC, read by the same process" },
  setting: { streams, workers: decoders, tokens, paceMs, repeats },
  repeats: observations,
  summary,
});
