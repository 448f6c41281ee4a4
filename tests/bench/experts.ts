/**
 * Experts elsewhere, with real processes: tokens per second and gaps between tokens of tiny-moe with its experts in process and in 1, 2 and 4
 * shards on the same cores, where the time of a MoE layer goes, bytes per token; then the longest gap of 8 streams at each of some SIGKILLs
 * of a shard whose experts another has too. Writes docs/reports/NAME.json.
 *
 * Usage: node tests/bench/experts.ts [--rounds 5] [--kills 20] [--model DIR] [--name experts] [--shards 0,1,2,4] [--tokens 120]
 * With --random the model is a qwen3_moe of random weights with a gigabyte of experts, made for it and removed afterwards:
 *   ./causeway bench experts --random --name experts-mid --rounds 2 --kills 0 --tokens 40
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Cluster, eventually, startCluster, writeRandomModel } from '@causeway/testkit';
import { startAnswer } from '../chaos/client.ts';
import { metric } from '../chaos/metric.ts';
import { spread, writeReport } from './bench-report.ts';
import { cpuSeconds } from './host-load.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    kills: { type: 'string', default: '20' },
    model: { type: 'string', default: join(import.meta.dirname, '../../models/tiny-moe') },
    random: { type: 'boolean', default: false },
    name: { type: 'string', default: 'experts' },
    tokens: { type: 'string', default: '120' },
    shards: { type: 'string', default: '0,1,2,4' },
  },
});
const rounds = Number(values.rounds);
const kills = Number(values.kills);

const MODEL = values.random ? randomModel() : values.model;
const MODEL_NAME = values.random ? 'random qwen3_moe' : basename(MODEL);
const PROMPT = 'The code of the box 7 is 149. Mia put the map in the garden. Tom sleeps in room 7. Count from 1 to 90.';
const TOKENS = Number(values.tokens);
const SHARDS = values.shards === '' ? [] : values.shards.split(',').map(Number);
const STREAMS = 8;
const PARTS = ['pack', 'network', 'queue', 'compute', 'combine'] as const;
/** On busy cores a process may not have a turn for seconds, and a gigabyte of weights is not loaded in two minutes. */
const READY_MS = 600_000;
const ENV = {
  CAUSEWAY_PRECISION: 'exact',
  CAUSEWAY_LEASE_MS: '20000',
  CAUSEWAY_MAX_SEQUENCES: '8',
  CAUSEWAY_MAX_CONTEXT: '512',
  CAUSEWAY_STARTUP_DEADLINE_MS: String(READY_MS),
};

/** One in so many rounds is without a kill. */
const CALM_EVERY = 4;

let asked = 0;

/** One answer: its ids, and the milliseconds between its tokens. */
async function answer(
  cluster: Cluster,
  onToken: (tokens: number) => void = () => undefined,
): Promise<{ ids: number[]; gaps: number[] }> {
  const gaps: number[] = [];
  let last: number | undefined;
  const received = await startAnswer(cluster.router, {
    api: 'grpc',
    prompt: PROMPT,
    maxTokens: TOKENS,
    temperature: 0,
    seed: 7,
    placement: 'local',
    requestId: `bench-${++asked}`,
    signal: AbortSignal.timeout(READY_MS),
    onReceived: ({ ids }) => {
      const now = performance.now();
      if (last !== undefined) gaps.push(now - last);
      last = now;
      onToken(ids.length);
    },
  }).done;
  if (received.error !== undefined) throw received.error;
  return { ids: received.ids, gaps };
}

/** Writes a checkpoint of 503 million weights of experts and 94 million others, bf16, and removes it at the end. */
function randomModel(): string {
  const out = mkdtempSync(join(tmpdir(), 'causeway-experts-'));
  process.on('exit', () => rmSync(out, { recursive: true, force: true }));
  const moe = { experts: 32, expertsPerToken: 8, inner: 512 };
  const attention = { hidden: 1024, heads: 16, kvHeads: 4, headDim: 64 };
  const tokenizerFrom = join(import.meta.dirname, '../../models/tiny-moe');
  const sizes = { layers: 10, inner: 4096, vocab: 32_768, context: 4096, tied: false };
  writeRandomModel({ out, type: 'BF16', ...attention, ...sizes, moe, tokenizerFrom });
  return out;
}

const rounded = (value: number): number => Math.round(value * 1000) / 1000;

async function layerTimes(observability: string): Promise<Record<string, number>> {
  const sums = await Promise.all(PARTS.map((part) => metric(observability, `causeway_expert_layer_seconds_sum{part="${part}"}`)));
  const layers = (await metric(observability, 'causeway_expert_layer_seconds_count{part="pack"}')) ?? 0;
  const bytes = await Promise.all(
    ['sent', 'received'].map((direction) => metric(observability, `causeway_expert_bytes_total{direction="${direction}"}`)),
  );
  return {
    layers,
    ...Object.fromEntries(PARTS.map((part, i) => [part, sums[i] ?? 0])),
    sent: bytes[0] ?? 0,
    received: bytes[1] ?? 0,
  };
}

/** CPU seconds of the worker, and of all shards together. */
function cpuByRole({ workers }: Cluster): { decode: number; expert: number } {
  const of = (wanted: string): number =>
    workers.reduce((sum, { role, process }) => sum + (role === wanted ? cpuSeconds(process.pid) : 0), 0);
  return { decode: of('decode'), expert: of('expert') };
}

/** Rounds of one answer, and of 8 at once. */
async function throughput(shards: number): Promise<object[]> {
  await using cluster = await startCluster({
    model: MODEL,
    router: true,
    prefill: 0,
    expert: shards,
    workerEnv: ENV,
    readyMs: READY_MS,
  });
  const observability = cluster.worker('decode-1').observability;
  await answer(cluster);
  const repeats: object[] = [];
  for (const streams of [1, STREAMS]) {
    for (let round = 0; round < rounds; round++) {
      const before = await layerTimes(observability);
      const cpu = cpuByRole(cluster);
      const start = performance.now();
      const answers = await Promise.all(Array.from({ length: streams }, () => answer(cluster)));
      const seconds = (performance.now() - start) / 1000;
      const after = await layerTimes(observability);
      const cpuAfter = cpuByRole(cluster);
      const gaps = answers.flatMap(({ gaps: own }) => own).sort((a, b) => a - b);
      const count = answers.reduce((sum, { ids }) => sum + ids.length, 0);
      const layers = (after['layers'] ?? 0) - (before['layers'] ?? 0);
      const perLayer = Object.fromEntries(
        PARTS.map((part) => [
          `${part}Ms`,
          layers === 0 ? 0 : rounded((1000 * ((after[part] ?? 0) - (before[part] ?? 0))) / layers),
        ]),
      );
      repeats.push({
        kind: 'throughput',
        shards,
        streams,
        round,
        loadAverage: rounded(loadavg()[0] ?? 0),
        tokensPerSecond: rounded(count / seconds),
        gapP50Ms: rounded(gaps[Math.floor(gaps.length * 0.5)] ?? 0),
        gapP95Ms: rounded(gaps[Math.floor(gaps.length * 0.95)] ?? 0),
        bytesPerToken: Math.round(
          ((after['sent'] ?? 0) + (after['received'] ?? 0) - (before['sent'] ?? 0) - (before['received'] ?? 0)) / count,
        ),
        workerCpuMs: rounded((1000 * (cpuAfter.decode - cpu.decode)) / count),
        shardCpuMs: rounded((1000 * (cpuAfter.expert - cpu.expert)) / count),
        ...perLayer,
      });
    }
  }
  return repeats;
}

/** 8 streams; a shard is killed in their middle, and started again afterwards. Also the same without a kill. */
async function disturbances(): Promise<object[]> {
  await using cluster = await startCluster({
    model: MODEL,
    router: true,
    prefill: 0,
    expert: 3,
    workerEnv: { ...ENV, CAUSEWAY_LEASE_MS: '1000', CAUSEWAY_EXPERT_MODE: 'exact', CAUSEWAY_EXPERT_COPIES: '2' },
  });
  const { ids: reference } = await answer(cluster);
  const observability = cluster.worker('decode-1').observability;
  const repeats: object[] = [];
  let killed = 0;
  for (let round = 0; killed < kills; round++) {
    const victim = round % CALM_EVERY === 0 ? undefined : cluster.worker(`expert-${1 + (killed++ % 3)}`);
    const begun = new Set<number>();
    const all = Array.from({ length: STREAMS }, (_, stream) =>
      answer(cluster, (tokens) => {
        if (tokens >= 10) begun.add(stream);
      }),
    );
    await eventually(() => begun.size === STREAMS, { what: 'every stream to be under way', timeoutMs: 60_000 });
    victim?.process.signal('KILL');
    const answers = await Promise.all(all);
    const different = answers.filter(({ ids }) => ids.join() !== reference.join()).length;
    const longestGapMs = rounded(Math.max(...answers.flatMap(({ gaps }) => gaps)));
    repeats.push({
      kind: 'kill',
      round,
      killed: victim?.id ?? 'none',
      different,
      longestGapMs,
      loadAverage: rounded(loadavg()[0] ?? 0),
    });
    console.log(JSON.stringify(repeats.at(-1)));
    if (victim === undefined) continue;
    const fresh = await cluster.startWorker('expert', victim.id);
    await fresh.process.waitReady(fresh.observability, 60_000);
    await eventually(async () => (await metric(observability, 'causeway_expert_shards_connected')) === 3, {
      what: 'every shard to be connected again',
      timeoutMs: 30_000,
    });
  }
  return repeats;
}

const repeats: object[] = [];
for (const shards of SHARDS) {
  repeats.push(...(await throughput(shards)));
  console.log(JSON.stringify(repeats.at(-1)));
}
if (kills > 0) repeats.push(...(await disturbances()));

type Row = Record<string, number | string>;
const rows = repeats as Row[];
const numbers = (of: Row[], field: string): number[] => of.map((row) => Number(row[field]));
const runs = SHARDS.flatMap((shards) =>
  [1, STREAMS].map((streams) => {
    const own = rows.filter((row) => row['kind'] === 'throughput' && row['shards'] === shards && row['streams'] === streams);
    const fields = [
      'tokensPerSecond',
      'gapP50Ms',
      'gapP95Ms',
      'bytesPerToken',
      'workerCpuMs',
      'shardCpuMs',
      ...PARTS.map((part) => `${part}Ms`),
    ];
    return { shards, streams, ...Object.fromEntries(fields.map((field) => [field, spread(numbers(own, field))])) };
  }),
);
const calm = rows.filter((row) => row['kind'] === 'kill' && row['killed'] === 'none');
const killed = rows.filter((row) => row['kind'] === 'kill' && row['killed'] !== 'none');
writeReport(values.name, {
  command: `node tests/bench/experts.ts --name ${values.name} ${values.random ? '--random' : `--model ${MODEL_NAME}`} --shards '${values.shards}' --rounds ${rounds} --kills ${kills} --tokens ${TOKENS}`,
  peers: {},
  setting: { model: MODEL_NAME, tokens: TOKENS, precision: 'exact', rows: 'f32', threads: 1 },
  repeats,
  summary: {
    runs,
    ...(kills === 0
      ? {}
      : {
          kills: {
            count: killed.length,
            different: numbers(killed, 'different').reduce((a, b) => a + b, 0),
            longestGapMs: spread(numbers(killed, 'longestGapMs')),
            undisturbedLongestGapMs: spread(numbers(calm, 'longestGapMs')),
          },
        }),
  },
});
