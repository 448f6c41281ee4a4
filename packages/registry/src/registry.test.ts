import { randomUUID } from 'node:crypto';
import { eventually, freePort, startRedis, type RedisServer } from '@causeway/testkit';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  connectRedis,
  RegistryView,
  RegistryWriter,
  WORKER_INDEX_KEY,
  workerKey,
  type RedisConnection,
  type WorkerRecord,
} from './index.ts';

const hash = (c: string): string => c.repeat(64);

function record(id: string, more: Partial<WorkerRecord> = {}): WorkerRecord {
  return {
    version: 1,
    id,
    incarnation: randomUUID(),
    role: 'decode',
    model: 'tiny-moe',
    architecture: 'deepseek_v3',
    contextLength: 2048,
    vocabSize: 1024,
    eosTokenIds: [1],
    chip: 'cpu',
    emulated: false,
    fingerprint: { architecture: hash('a'), weights: hash('b'), tokenizer: hash('c'), rope: hash('d'), geometry: hash('e') },
    descriptor: {
      version: 1,
      layers: [{ kind: 'latent', rank: 64, ropeDim: 16 }],
      storage: { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
    },
    address: '127.0.0.1:50100',
    observability: '127.0.0.1:50101',
    capacity: { totalPages: 64, blockTokens: 16, maxSequences: 8 },
    load: { running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 64 },
    rates: { prefillTokensPerSecond: 0, decodeTokensPerSecond: 0 },
    draining: false,
    startedAt: Date.now(),
    ...more,
  };
}

let server: RedisServer;
let admin: Redis;
const connect = (): Promise<RedisConnection> => connectRedis({ url: server.url, deadlineMs: 5000 });
const ids = (view: RegistryView): string[] => view.snapshot.workers.map((worker) => worker.id);

beforeAll(async () => {
  server = await startRedis();
  admin = new Redis(server.url, { retryStrategy: () => 50 });
  admin.on('error', () => undefined);
});
beforeEach(async () => {
  await server.start();
  await eventually(() => admin.flushall());
});
afterAll(async () => {
  admin.disconnect();
  await server[Symbol.asyncDispose]();
});

test('a worker is seen with its load, and gone when it deregisters', async () => {
  await using redis = await connect();
  await using view = new RegistryView({ redis, pollMs: 20 });
  await view.loaded;
  expect(ids(view)).toEqual([]);
  {
    await using writer = new RegistryWriter({ redis, record: record('d0'), leaseMs: 3000, minIntervalMs: 10 });
    await eventually(() => ids(view).includes('d0'));
    writer.update({ load: { running: 3, waiting: 1, queuedPromptTokens: 99, freePages: 7 } });
    await eventually(() => view.snapshot.workers[0]?.load.freePages === 7);
    expect(Object.isFrozen(view.snapshot.workers[0]?.descriptor.layers)).toBe(true);
    expect(await admin.pttl(workerKey('d0'))).toBeGreaterThan(1000);
  }
  await eventually(() => ids(view).length === 0);
  expect(await admin.exists(workerKey('d0'), WORKER_INDEX_KEY)).toBe(0);
});

test('disposing does not take away the record of a newer incarnation', async () => {
  await using redis = await connect();
  const old = new RegistryWriter({ redis, record: record('d0'), leaseMs: 30_000 });
  await old.registered;
  const next = record('d0');
  await using writer = new RegistryWriter({ redis, record: next, leaseMs: 30_000 });
  await writer.registered;
  await old[Symbol.asyncDispose]();
  expect(await admin.get(workerKey('d0'))).toContain(next.incarnation);
});

test('a worker that stops writing is out within its lease', async () => {
  await using redis = await connect();
  await using view = new RegistryView({ redis, pollMs: 20 });
  const lost = await connect();
  const writer = new RegistryWriter({ redis: lost, record: record('d0'), leaseMs: 500 });
  await eventually(() => ids(view).includes('d0'));
  const start = performance.now();
  // As after a crash: no deregistration, the connection just ends.
  lost.client.disconnect();
  await eventually(() => ids(view).length === 0);
  expect(performance.now() - start).toBeLessThan(1500);
  await writer[Symbol.asyncDispose]();
  await lost[Symbol.asyncDispose]();
});

test('while Redis is away the snapshot stays; after it restarts empty workers register anew and dead ones leave', async () => {
  await using redis = await connect();
  await using view = new RegistryView({ redis, pollMs: 20 });
  await using writer = new RegistryWriter({ redis, record: record('alive'), leaseMs: 900 });
  const dead = await connect();
  const deadWriter = new RegistryWriter({ redis: dead, record: record('dead'), leaseMs: 900 });
  await eventually(() => ids(view).length === 2);
  const seen: number[] = [];
  using _watch = view.onChange((snapshot) => void seen.push(snapshot.workers.length));
  await server.signal('KILL');
  await eventually(() => !view.connected);
  dead.client.disconnect();
  await deadWriter[Symbol.asyncDispose]();
  const writes = writer.writes;
  expect(ids(view)).toEqual(['alive', 'dead']);
  await server.start();
  await eventually(() => writer.writes > writes);
  await eventually(() => ids(view).length === 1);
  expect(ids(view)).toEqual(['alive']);
  expect(Math.min(...seen)).toBe(1);
  expect(await admin.exists(workerKey('alive'))).toBe(1);
});

test('a Redis that hangs counts as away and nothing waits for it', async () => {
  await using redis = await connectRedis({ url: server.url, deadlineMs: 5000, commandTimeoutMs: 100 });
  await using view = new RegistryView({ redis, pollMs: 20 });
  await using writer = new RegistryWriter({ redis, record: record('d0'), leaseMs: 900 });
  await eventually(() => ids(view).includes('d0'));
  await server.signal('STOP');
  await expect(redis.client.ping()).rejects.toThrow(/timed out/i);
  expect(ids(view)).toEqual(['d0']);
  await server.signal('CONT');
  const writes = writer.writes;
  await eventually(() => writer.writes > writes);
  expect(ids(view)).toEqual(['d0']);
});

test('a removed worker stays out until it writes again, or starts again', async () => {
  await using redis = await connect();
  await using view = new RegistryView({ redis, pollMs: 20 });
  const first = record('d0');
  const writer = new RegistryWriter({ redis, record: first, leaseMs: 30_000, minIntervalMs: 10 });
  await eventually(() => ids(view).includes('d0'));
  view.remove('d0', 'another-incarnation');
  expect(ids(view)).toEqual(['d0']);
  view.remove('d0', first.incarnation);
  expect(ids(view)).toEqual([]);
  // Several reads of the same heartbeat do not bring it back.
  const before = view.snapshot.version;
  await using other = new RegistryWriter({ redis, record: record('d1'), leaseMs: 30_000 });
  await eventually(() => ids(view).includes('d1'));
  const start = await commands(admin);
  await eventually(async () => (await commands(admin)) > start + 20);
  expect(ids(view)).toEqual(['d1']);
  expect(view.snapshot.version).toBeGreaterThan(before);
  writer.update({ load: { running: 1, waiting: 0, queuedPromptTokens: 0, freePages: 1 } });
  await eventually(() => ids(view).length === 2);

  view.remove('d0', first.incarnation);
  expect(ids(view)).toEqual(['d1']);
  await using restarted = new RegistryWriter({ redis, record: record('d0'), leaseMs: 30_000 });
  await eventually(() => ids(view).length === 2);
  await writer[Symbol.asyncDispose]();
  await restarted.registered;
  await other.registered;
});

test('rubbish under our keys is ignored, told once per key and counted', async () => {
  const lines: string[] = [];
  const log = {
    info: () => undefined,
    error: () => undefined,
    warn: (fields: object) => void lines.push(JSON.stringify(fields)),
  };
  await using redis = await connect();
  const good = JSON.stringify(record('good'));
  await admin.sadd(
    WORKER_INDEX_KEY,
    'good',
    'text',
    'list',
    'huge',
    'newer',
    'liar',
    'array',
    'bad id with spaces',
    '../../etc',
    'gone',
  );
  await admin.set(workerKey('text'), 'hello');
  await admin.rpush(workerKey('list'), 'a', 'b');
  await admin.set(workerKey('huge'), 'x'.repeat(5_000_000));
  await admin.set(workerKey('newer'), `${JSON.stringify({ ...JSON.parse(good), version: 2 })}\n{}`);
  await admin.set(workerKey('liar'), `${good}\n{}`);
  await admin.set(workerKey('array'), '[]\n[]');
  await using view = new RegistryView({ redis, pollMs: 10, log });
  await using writer = new RegistryWriter({ redis, record: record('good'), leaseMs: 30_000, log });
  await eventually(() => ids(view).includes('good'));
  await eventually(() => view.ignored >= 8);
  const start = await commands(admin);
  await eventually(async () => (await commands(admin)) > start + 20);
  expect(view.ignored).toBe(8);
  expect(ids(view)).toEqual(['good']);
  expect(lines.filter((line) => line.includes('newer')).join()).toContain('version 2');
  expect(lines.filter((line) => line.includes('why'))).toHaveLength(8);
  await writer.registered;
});

async function commands(client: Redis): Promise<number> {
  return Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))?.[1]);
}

test('an index or record key that holds another type is replaced by the worker', async () => {
  await using redis = await connect();
  await admin.set(WORKER_INDEX_KEY, 'not a set');
  await admin.rpush(workerKey('d0'), 'not a string');
  await using view = new RegistryView({ redis, pollMs: 20 });
  await using writer = new RegistryWriter({ redis, record: record('d0'), leaseMs: 900 });
  await writer.registered;
  await eventually(() => ids(view).includes('d0'));
});

test('another process under the same id is reported', async () => {
  const errors: object[] = [];
  const log = { info: () => undefined, warn: () => undefined, error: (fields: object) => void errors.push(fields) };
  await using redis = await connect();
  const rival = record('d0');
  await using a = new RegistryWriter({ redis, record: record('d0'), leaseMs: 300, minIntervalMs: 10, log });
  await using b = new RegistryWriter({ redis, record: rival, leaseMs: 300, minIntervalMs: 10 });
  await eventually(() => errors.length > 0);
  expect(errors[0]).toMatchObject({ workerId: 'd0', rival: rival.incarnation });
  await Promise.all([a.registered, b.registered]);
});

test('dead ids are swept from the index', async () => {
  await using redis = await connect();
  await admin.sadd(WORKER_INDEX_KEY, 'crashed-1', 'crashed-2', 'not an id');
  await using writer = new RegistryWriter({ redis, record: record('d0'), leaseMs: 300, minIntervalMs: 1 });
  await eventually(
    async () => {
      writer.update({ draining: false });
      return (await admin.smembers(WORKER_INDEX_KEY)).length === 1;
    },
    { intervalMs: 5 },
  );
});

test('a record that is not valid is refused before anything is written', async () => {
  await using redis = await connect();
  const bad = { ...record('d0'), address: 'nowhere', vocabSize: -1 };
  expect(() => new RegistryWriter({ redis, record: bad, leaseMs: 900 })).toThrow(/vocabSize.*address|address.*vocabSize/s);
  expect(() => new RegistryWriter({ redis, record: record('a b'), leaseMs: 900 })).toThrow(/id/);
});

test('Redis that is not there is waited for, named, and given up by the deadline', async () => {
  const port = await freePort();
  const told: string[] = [];
  const log = { info: () => undefined, error: () => undefined, warn: (_: object, message: string) => void told.push(message) };
  const missing = connectRedis({ url: `redis://:secret@127.0.0.1:${port}`, deadlineMs: 400, log });
  await expect(missing).rejects.toMatchObject({ code: 'unavailable', reason: 'dependency_unavailable' });
  await expect(missing).rejects.toThrow(new RegExp(`Redis at redis://127.0.0.1:${port} did not answer within 400 ms`));
  expect(told.join()).toMatch(/waiting for Redis/);
  expect(told.join()).not.toContain('secret');

  const late = connectRedis({ url: `redis://127.0.0.1:${port}`, deadlineMs: 10_000 });
  await using _server = await startRedis({ port });
  await using connection = await late;
  expect(await connection.client.ping()).toBe('PONG');
});
