/**
 * A skewed load on 4 shards, and what a rebalance makes of it: experts are drawn by Zipf's law, the most wanted ones lie together on one
 * shard as experts do that are placed in order; then they are placed by what the worker counted. Shards are processes of their own; their
 * model is a random qwen3_moe whose experts compute for longer than a message takes. Writes docs/reports/expert-balance.json.
 *
 * Usage: node tests/bench/expert-balance.ts [--rounds N] [--frames N] [--exponent 1.2]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ExpertLoads, type Placement, planPlacement, shardLoads } from '@causeway/experts/placing';
import { eventually, writeRandomModel } from '@causeway/testkit';
import { type ExpertShards, startShards } from './arms/expert-shards.ts';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';
import { cpuSeconds } from './host-load.ts';

const rounds = Number(flag('rounds', '5'));
const frames = Number(flag('frames', '12'));
const exponent = Number(flag('exponent', '1.2'));
const SHARDS = 4;
const TOKENS = 256;
const EXPERTS = 32;
const [HIDDEN, INNER] = [512, 1024];
const PER_TOKEN = 2;
const HOT_COPIES = 8;

const cumulated: number[] = [];
for (let expert = 0; expert < EXPERTS; expert++) cumulated.push((cumulated.at(-1) ?? 0) + 1 / (expert + 1) ** exponent);

/** Different experts, the first ones most often. */
function draw(): number[] {
  const chosen = new Set<number>();
  while (chosen.size < PER_TOKEN) {
    const at = Math.random() * (cumulated.at(-1) ?? 1);
    chosen.add(cumulated.findIndex((until) => at < until));
  }
  return [...chosen];
}

const folder = mkdtempSync(join(tmpdir(), 'causeway-balance-'));
await using cleanup = new AsyncDisposableStack();
cleanup.defer(() => rmSync(folder, { recursive: true, force: true }));
writeRandomModel({
  out: folder,
  type: 'BF16',
  hidden: HIDDEN,
  layers: 1,
  inner: 512,
  heads: 8,
  kvHeads: 2,
  headDim: 64,
  vocab: 512,
  context: 512,
  tied: true,
  moe: { experts: EXPERTS, expertsPerToken: PER_TOKEN, inner: INNER },
});
await using at = await startShards({ model: folder, shards: SHARDS });
const layer = at.shape.layers[0] ?? 0;

/** Puts a placement in force and waits until the client uses it. */
async function place({ view, client }: ExpertShards, make: (current: Placement) => Placement): Promise<Placement> {
  const { placement } = view.snapshot;
  if (placement === undefined) throw new Error('there is no placement');
  const next = make(placement);
  if (!(await view.store.propose(next, { current: placement.epoch, next: 0 })))
    throw new Error('the placement was changed meanwhile');
  await eventually(() => client.links.placement?.epoch === next.epoch, { what: 'the new placement', timeoutMs: 60_000 });
  return next;
}

interface Round {
  arm: string;
  round: number;
  tokensPerSecond: number;
  /** By the CPU time of the busiest shard: what the shards would do if each had a core of its own, as machines of their own have. */
  tokensPerBusiestSecond: number;
  /** Work of the busiest shard over the mean, by the calls that each answered. */
  maxOverMean: number;
  loadAverage: number;
}

/** One round: frames one after the other, as a layer's are. */
async function measure(arm: string, round: number): Promise<Round> {
  const calls = new Map<string, number>();
  const cpu = [...at.pids.values()].map(cpuSeconds);
  const start = performance.now();
  for (let frame = 0; frame < frames; frame++) {
    const { calls: answered } = await at.ask(layer, TOKENS, draw);
    for (const [shard, count] of answered) calls.set(shard, (calls.get(shard) ?? 0) + count);
  }
  const seconds = (performance.now() - start) / 1000;
  const busiest = Math.max(...[...at.pids.values()].map((pid, i) => cpuSeconds(pid) - (cpu[i] ?? 0)));
  const total = [...calls.values()].reduce((a, b) => a + b, 0);
  return {
    arm,
    round,
    tokensPerSecond: (frames * TOKENS) / seconds,
    tokensPerBusiestSecond: (frames * TOKENS) / busiest,
    maxOverMean: Math.max(...calls.values()) / (total / SHARDS),
    loadAverage: loadavg()[0] ?? 0,
  };
}

const inOrder = (current: Placement): Placement => ({
  ...current,
  epoch: current.epoch + 1,
  layers: { [layer]: Array.from({ length: EXPERTS }, (_, expert) => [Math.floor((expert * SHARDS) / EXPERTS)]) },
});
const byLoad =
  (loads: ExpertLoads) =>
  (current: Placement): Placement =>
    planPlacement({
      ...current,
      shape: at.shape,
      shards: current.shards.map((id) => ({ id, capacity: 4 * EXPERTS })),
      loads,
      minCopies: 1,
      hotCopies: HOT_COPIES,
      current,
    });

// The loads that the second placement is made of are those of a round before.
await place(at, inOrder);
await measure('warm-up', 0);
const loads = at.client.loads.recent;
const predicted: Record<string, number> = {};
const repeats: Round[] = [];
for (let round = 0; round < rounds; round++) {
  for (const [arm, make] of [
    ['in order', inOrder],
    ['by load', byLoad(loads)],
  ] as const) {
    predicted[arm] = shardLoads(await place(at, make), loads).maxOverMean;
    await at.ask(layer, TOKENS, draw);
    repeats.push(await measure(arm, round));
    console.log(JSON.stringify(repeats.at(-1)));
  }
}
type Figure = 'tokensPerSecond' | 'tokensPerBusiestSecond' | 'maxOverMean';
const of = (arm: string, key: Figure): number[] => repeats.filter((row) => row.arm === arm).map((row) => row[key]);
const arms = ['in order', 'by load'].map((arm) => ({
  arm,
  tokensPerSecond: spread(of(arm, 'tokensPerSecond')),
  tokensPerBusiestSecond: spread(of(arm, 'tokensPerBusiestSecond')),
  maxOverMean: spread(of(arm, 'maxOverMean')),
  predicted: predicted[arm] ?? 0,
}));
const against = (key: Figure) => spread(of('by load', key).map((fast, i) => fast / (of('in order', key)[i] ?? 1)));
const [ratio, busiestRatio] = [against('tokensPerSecond'), against('tokensPerBusiestSecond')];
console.log(`by load / in order: ${showSpread(ratio)}, by the busiest shard's CPU time ${showSpread(busiestRatio)}`);
writeReport('expert-balance', {
  command: `node tests/bench/expert-balance.ts --rounds ${rounds} --frames ${frames} --exponent ${exponent}`,
  peers: {},
  setting: {
    shards: SHARDS,
    experts: EXPERTS,
    perToken: PER_TOKEN,
    tokens: TOKENS,
    exponent,
    hotCopies: HOT_COPIES,
    hidden: HIDDEN,
    inner: INNER,
  },
  repeats,
  summary: { arms, ratio, busiestRatio },
});
