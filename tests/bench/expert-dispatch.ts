/**
 * What it costs to have a layer's experts elsewhere, beside what they compute: one layer of tiny-moe dispatched to a shard (a real process),
 * against a bare grpc-js message of as many bytes there and back to a process of its own. Both take turns, layer by layer. The bare peer
 * answers at once, and again after as long as the shard computed: a process that was idle for longer wakes later.
 * The gate, which a worker computes before, is timed as a graph of its own. Writes docs/reports/expert-dispatch.json.
 *
 * Usage: node tests/bench/expert-dispatch.ts [--layers N]
 */
import { join } from 'node:path';
import { openGate } from './arms/expert-gate.ts';
import { startShards } from './arms/expert-shards.ts';
import { startEcho } from './arms/grpc-echo.ts';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';

const layers = Number(flag('layers', '400'));
const ROUNDS = 5;
const TOKENS = [1, 8, 64];
const PARTS = ['gateMs', 'totalMs', 'packMs', 'networkMs', 'queueMs', 'computeMs', 'combineMs'] as const;

const MODEL = join(import.meta.dirname, '../../models/tiny-moe');
await using at = await startShards({ model: MODEL, shards: 1 });
await using gate = await openGate(MODEL);
await using echo = await startEcho();
const { shape, client } = at;

type Row = Record<string, number>;

/** One layer's dispatch of random tokens: milliseconds in all, and where they went; then the bare messages. */
async function pair(tokens: number, layer: number): Promise<Row> {
  const gateMs = await gate.run(tokens);
  const { bytesSent, bytesReceived } = client.counters;
  const choose = (): number[] => {
    const all = Array.from({ length: shape.experts }, (_, expert) => expert).sort(() => Math.random() - 0.5);
    return all.slice(0, shape.expertsPerToken);
  };
  const { calls: _, ...times } = await at.ask(layer, tokens, choose);
  const sent = client.counters.bytesSent - bytesSent;
  const received = client.counters.bytesReceived - bytesReceived;
  const bareMs = await echo.roundTrip(sent, received);
  const thinkMs = times.computeMs;
  const bareLaterMs = (await echo.roundTrip(sent, received, thinkMs)) - thinkMs;
  return { ...times, gateMs, bareMs, bareLaterMs, sent, received, besideMs: times.totalMs - times.computeMs };
}

/** What a tenth of the layers stay below: on a machine that does other work too, the median is mostly that work. */
const tenth = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 10)] ?? Number.NaN;
const repeats: Row[] = [];
for (let i = 0; i < 300; i++) await pair(8, shape.layers[i % shape.layers.length] ?? 0);
for (let round = 0; round < ROUNDS; round++) {
  for (const tokens of TOKENS) {
    const all: Row[] = [];
    for (let i = 0; i < layers; i++) all.push(await pair(tokens, shape.layers[i % shape.layers.length] ?? 0));
    const of = (key: string): [string, number] => [key, tenth(all.map((one) => one[key] ?? 0))];
    const keys = [...PARTS, 'besideMs', 'bareMs', 'bareLaterMs', 'sent', 'received'];
    const row = { round, tokens, ...Object.fromEntries(keys.map(of)) };
    repeats.push(row);
    console.log(
      JSON.stringify(row, (_, value: unknown) => (typeof value === 'number' ? Math.round(value * 1000) / 1000 : value)),
    );
  }
}
const summary = TOKENS.map((tokens) => {
  const own = repeats.filter((row) => row['tokens'] === tokens);
  const of = (key: string) => spread(own.map((row) => row[key] ?? 0));
  const against = (key: string, bare: string) => spread(own.map((row) => (row[key] ?? 0) / (row[bare] ?? 1)));
  return {
    tokens,
    ...Object.fromEntries([...PARTS, 'besideMs', 'bareMs', 'bareLaterMs'].map((key) => [key, of(key)])),
    ratio: against('besideMs', 'bareMs'),
    ratioLater: against('besideMs', 'bareLaterMs'),
    networkRatio: against('networkMs', 'bareMs'),
    networkRatioLater: against('networkMs', 'bareLaterMs'),
    bytesPerToken: (of('sent').median + of('received').median) / tokens,
    // A row there and a row back.
    leastBytesPerToken: 2 * 4 * shape.hidden,
  };
});
for (const { tokens, ratio, ratioLater } of summary) {
  console.log(
    `${tokens} tokens: all beside computing / bare ${showSpread(ratio)}, / bare after as long ${showSpread(ratioLater)}`,
  );
}
writeReport('expert-dispatch', {
  command: `node tests/bench/expert-dispatch.ts --layers ${layers}`,
  peers: { bare: '@grpc/grpc-js, one bidirectional stream of bytes, no codec' },
  setting: { model: 'tiny-moe', layers, rounds: ROUNDS, precision: 'exact', rows: 'f32' },
  repeats,
  summary,
});
