/**
 * What it costs to have a layer's experts elsewhere, beside what they compute: one layer of tiny-moe dispatched to a shard (a real process),
 * against a bare grpc-js message of as many bytes there and back to a process of its own. Both take turns, layer by layer.
 * Writes docs/reports/expert-dispatch.json.
 *
 * Usage: node tests/bench/expert-dispatch.ts [--layers N]
 */
import { join } from 'node:path';
import { ExpertClient, expertFingerprint, type LayerTimes } from '@causeway/experts';
import { ExpertView } from '@causeway/experts/placing';
import { openCheckpoint } from '@causeway/model-files';
import { expertShape } from '@causeway/models';
import { NativeBuffer, Runtime, Tensor } from '@causeway/ort';
import { connectRedis } from '@causeway/registry';
import { createChannelPool } from '@causeway/rpc';
import { startProcess, startRedis } from '@causeway/testkit';
import { startEcho } from './arms/grpc-echo.ts';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';

const layers = Number(flag('layers', '400'));
const ROUNDS = 5;
const ROOT = join(import.meta.dirname, '../..');
const MODEL = join(ROOT, 'models/tiny-moe');
const quiet = { info: () => undefined, debug: () => undefined, warn: console.warn, error: console.error };

await using stack = new AsyncDisposableStack();
const server = stack.use(await startRedis());
const shard = stack.use(
  startProcess({
    script: join(ROOT, 'services/expert/src/main.ts'),
    env: {
      CAUSEWAY_REDIS_URL: server.url,
      CAUSEWAY_MODEL_PATH: MODEL,
      CAUSEWAY_WORKER_ID: 'expert-1',
      CAUSEWAY_PRECISION: 'exact',
      UV_THREADPOOL_SIZE: '8',
    },
  }),
);
const ready = await shard.waitForLog((line) => line.msg === 'ready', 60_000);
const echo = stack.use(await startEcho());
const checkpoint = stack.use(await openCheckpoint(MODEL));
const shape = expertShape(checkpoint);
const runtime = stack.use(Runtime.create({ threads: 2 }));
const redis = stack.use(await connectRedis({ url: server.url, deadlineMs: 5000 }));
const model = String(ready['model']);
let times: LayerTimes | undefined;
const onCrash = (error: unknown): void => {
  throw error;
};
const client = stack.use(
  await ExpertClient.create({
    runtime,
    shape,
    model,
    fingerprint: expertFingerprint(checkpoint, shape, 'exact'),
    workerId: 'bench',
    mode: 'default',
    rowType: 'f32',
    waitMs: 5000,
    redis,
    view: new ExpertView({ redis, model, onCrash }),
    channels: createChannelPool(),
    log: quiet,
    onLayer: (of) => (times = of),
    onCrash,
  }),
);
await client.ready(30_000, new AbortController().signal);

/** One layer's dispatch of random tokens: milliseconds in all, and where they went; then the bare messages. */
async function pair(tokens: number, layer: number): Promise<Record<string, number>> {
  using memory = new DisposableStack();
  const tensor = (type: 'f32' | 'i64', columns: number): Tensor => {
    const bytes = tokens * columns * (type === 'f32' ? 4 : 8);
    return memory.use(Tensor.of(memory.use(NativeBuffer.allocate(bytes)), 0, type, [tokens, columns]));
  };
  const rows = tensor('f32', shape.hidden);
  const ids = tensor('i64', shape.expertsPerToken);
  const weights = tensor('f32', shape.expertsPerToken);
  const output = tensor('f32', shape.hidden);
  const floats = (of: Tensor): Float32Array => {
    const bytes = of.buffer.bytes(0, of.byteLength);
    return new Float32Array(bytes.buffer, bytes.byteOffset, of.byteLength / 4);
  };
  floats(rows).forEach((_, i, all) => (all[i] = Math.random() - 0.5));
  floats(weights).fill(1 / shape.expertsPerToken);
  const chosen = ids.buffer.bytes(0, ids.byteLength);
  const list = new BigInt64Array(chosen.buffer, chosen.byteOffset, tokens * shape.expertsPerToken);
  for (let token = 0; token < tokens; token++) {
    const all = Array.from({ length: shape.experts }, (_, expert) => expert).sort(() => Math.random() - 0.5);
    for (let i = 0; i < shape.expertsPerToken; i++) list[token * shape.expertsPerToken + i] = BigInt(all[i] ?? 0);
  }
  const { bytesSent, bytesReceived } = client.counters;
  const start = performance.now();
  await client.start({ layer, batch: 1, rows, ids, weights, output, signal: undefined }).done;
  const totalMs = performance.now() - start;
  if (times === undefined) throw new Error('the dispatch told no times');
  const { packMs, networkMs, queueMs, computeMs, combineMs } = times;
  const sent = client.counters.bytesSent - bytesSent;
  const received = client.counters.bytesReceived - bytesReceived;
  const bareMs = await echo.roundTrip(sent, received);
  return { tokens, totalMs, packMs, networkMs, queueMs, computeMs, combineMs, bareMs, sent, received };
}

const median = (values: readonly number[]): number => spread(values).median;
const repeats: Record<string, number>[] = [];
for (let i = 0; i < 300; i++) await pair(8, shape.layers[i % shape.layers.length] ?? 0);
for (let round = 0; round < ROUNDS; round++) {
  for (const tokens of [1, 8, 64]) {
    const all: Record<string, number>[] = [];
    for (let i = 0; i < layers; i++) all.push(await pair(tokens, shape.layers[i % shape.layers.length] ?? 0));
    const of = (key: string): number => median(all.map((one) => one[key] ?? 0));
    const keys = ['totalMs', 'packMs', 'networkMs', 'queueMs', 'computeMs', 'combineMs', 'bareMs', 'sent', 'received'];
    // What isn't computing at the shard, of the same layer each.
    const besideMs = median(all.map(({ totalMs = 0, computeMs = 0 }) => totalMs - computeMs));
    const row = { round, tokens, ...Object.fromEntries(keys.map((key) => [key, of(key)])), besideMs };
    repeats.push(row);
    console.log(
      JSON.stringify(row, (_, value: unknown) => (typeof value === 'number' ? Math.round(value * 1000) / 1000 : value)),
    );
  }
}
const summary = [1, 8, 64].map((tokens) => {
  const own = repeats.filter((row) => row['tokens'] === tokens);
  const of = (key: string) => spread(own.map((row) => row[key] ?? 0));
  return {
    tokens,
    bareMs: of('bareMs'),
    networkMs: of('networkMs'),
    packMs: of('packMs'),
    queueMs: of('queueMs'),
    computeMs: of('computeMs'),
    combineMs: of('combineMs'),
    besideMs: of('besideMs'),
    networkRatio: spread(own.map(({ networkMs = 0, bareMs = 1 }) => networkMs / bareMs)),
    ratio: spread(own.map(({ besideMs = 0, bareMs = 1 }) => besideMs / bareMs)),
    bytes: of('sent').median + of('received').median,
  };
});
for (const { tokens, networkRatio, ratio } of summary) {
  console.log(`${tokens} tokens: network / bare ${showSpread(networkRatio)}, all beside computing / bare ${showSpread(ratio)}`);
}
writeReport('expert-dispatch', {
  command: `node tests/bench/expert-dispatch.ts --layers ${layers}`,
  peers: { bare: '@grpc/grpc-js, one bidirectional stream of bytes, no codec' },
  setting: { model: 'tiny-moe', layers, rounds: ROUNDS, precision: 'exact', rows: 'f32' },
  repeats,
  summary,
});
