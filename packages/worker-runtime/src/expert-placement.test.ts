/** Shards and placements in odd situations: two that plan at once, too little memory, a checkpoint that changes. Real Redis, real shards. */
import { cpSync, mkdtempSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ExpertsBytesDefinition } from '@causeway/experts';
import { ExpertView, type Placement, planPlacement } from '@causeway/experts/placing';
import { AsyncQueue } from '@causeway/lifecycle';
import { expertV1 } from '@causeway/proto';
import { connectRedis } from '@causeway/registry';
import { createChannelPool } from '@causeway/rpc';
import { type CutConnection, eventually, freePort, type RedisServer, startCutLink, startRedis } from '@causeway/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { logitsOf, modelFolder, startExperts } from './testing/expert-cluster.ts';

const IDS = [5, 6, 7, 8, 9];
const ALL = Array.from({ length: 16 }, (_, expert) => expert);

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

const placement = (epoch: number, model: string): Placement => ({
  ...planPlacement({
    model,
    fingerprint: 'f',
    shape: { layers: [1], experts: 4, groups: 1 },
    shards: [{ id: 'a', capacity: 9 }],
    loads: new Map(),
    minCopies: 1,
    hotCopies: 0,
  }),
  epoch,
});

it('of two that plan from the same placement one is refused, and only what was proposed comes into force', async () => {
  await using connection = await connectRedis({ url: redis.url, deadlineMs: 5000 });
  const model = 'm with / odd : characters';
  await using a = new ExpertView({ redis: connection, model, pollMs: 10 });
  await using b = new ExpertView({ redis: connection, model, pollMs: 10 });
  const seen = await a.store.epochs();
  expect(seen).toEqual({ current: 0, next: 0 });
  const both = await Promise.all([a.store.propose(placement(1, model), seen), b.store.propose(placement(1, model), seen)]);
  expect(both.filter((won) => won)).toEqual([true]);
  expect(await a.store.turn(2)).toBe(false);
  expect(await a.store.turn(1)).toBe(true);
  expect(await b.store.turn(1)).toBe(false);
  await eventually(() => b.snapshot.placement?.epoch === 1);
  expect(await b.store.propose(placement(2, model), { current: 0, next: 0 })).toBe(false);
  expect(await b.store.propose(placement(2, model), { current: 1, next: 0 })).toBe(true);
  expect(await a.store.drop(2)).toBe(true);
  // Redis forgets; what was in force stays, and is put back once.
  await connection.client.flushall();
  expect(await a.store.restore(placement(1, model))).toBe(true);
  expect(await b.store.restore(placement(1, model))).toBe(false);
  expect(b.snapshot.placement?.epoch).toBe(1);
});

it('a shard refuses what its memory does not hold, says what it could, and goes on with what it has', async () => {
  const expertBytes = 3 * 192 * 64 * 4;
  const node = (shard: number) => (shard === 0 ? { budgetBytes: 4 * 10 * expertBytes } : {});
  await using cluster = await startExperts({
    redis,
    folder: modelFolder('tiny-moe'),
    split: [ALL.slice(0, 4), ALL.slice(4)],
    node,
  });
  const [small] = cluster.nodes;
  expect(small?.record).toMatchObject({ capacity: 40, held: 16 });
  await expect(cluster.turn([ALL, []])).rejects.toThrow(/shards to load/);
  expect(small?.record.refused).toMatchObject({ epoch: 2, reason: expect.stringMatching(/told to hold 64 experts .* hold 40 /) });
  expect(small?.record.epochs).toEqual([1]);
  expect((await logitsOf(cluster.loaded, IDS)).every(Number.isFinite)).toBe(true);
}, 60_000);

it('a shard does not load from a checkpoint that changed on disk', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-experts-'));
  try {
    cpSync(modelFolder('tiny-moe'), folder, { recursive: true });
    await using cluster = await startExperts({ redis, folder, split: [ALL.slice(0, 8), ALL.slice(8)] });
    utimesSync(join(folder, 'model.safetensors'), new Date(), new Date(Date.now() + 60_000));
    await expect(cluster.turn([ALL.slice(8), ALL.slice(0, 8)])).rejects.toThrow(/shards to load/);
    expect(cluster.nodes[0]?.record.refused?.reason).toMatch(/model.safetensors changed while it was in use/);
    expect((await logitsOf(cluster.loaded, IDS)).every(Number.isFinite)).toBe(true);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 60_000);

it('a worker whose connection fell silent does not keep the experts of its placement in memory', async () => {
  await using cluster = await startExperts({ redis, folder: modelFolder('tiny-moe'), split: [ALL.slice(0, 8), ALL.slice(8)] });
  const [node] = cluster.nodes;
  const [host = '', shardPort] = node?.record.address.split(':') ?? [];
  const port = await freePort();
  await using link = await startCutLink({ host, port, target: { host, port: Number(shardPort) } });
  using channels = createChannelPool();
  const requests = new AsyncQueue<Uint8Array>(4);
  const value: expertV1.Hello = {
    protocolVersion: 1,
    fingerprint: node?.fingerprint ?? '',
    workerId: 'silent',
    answers: expertV1.AnswerMode.ANSWER_MODE_SUMS,
    rowType: expertV1.RowType.ROW_TYPE_F32,
    epoch: 1n,
  };
  requests.tryPush(expertV1.DispatchRequest.encode({ request: { $case: 'hello', value }, body: new Uint8Array(0) }).finish());
  const replies = channels.client(ExpertsBytesDefinition, `${host}:${port}`).dispatch(requests)[Symbol.asyncIterator]();
  expect((await replies.next()).done).toBe(false);
  await cluster.turn([ALL.slice(8), ALL.slice(0, 8)]);
  // The silent worker still uses the first placement, so its experts stay beside the new ones.
  expect(node?.held.epochs).toEqual([1, 2]);
  link.cut(link.connections[0] as CutConnection);
  await eventually(() => node?.held.epochs.join() === '2', { what: 'the old experts to go', timeoutMs: 30_000 });
}, 60_000);
