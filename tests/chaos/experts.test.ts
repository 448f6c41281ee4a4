/** Failures of expert shards, met by running answers: no request fails, no token differs. Processes and signals are real. */
import { fileURLToPath } from 'node:url';
import { type Cluster, type ClusterWorker, eventually, startCluster } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { difference, MAX_TOKENS, PROMPT, type Reference } from './answers.ts';
import { type Received, startAnswer } from './client.ts';
import { metric } from './metric.ts';

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
const LIMIT_MS = 120_000;
const STREAMS = 8;
const SHORT_PROMPT = PROMPT.slice(-400);

/** What a dead shard may cost beyond what an undisturbed run shows on the same machine. */
const MOST_ADDED_MS = 1000;

const SHARED = { CAUSEWAY_PRECISION: 'exact', CAUSEWAY_EXPERT_MODE: 'exact', CAUSEWAY_LEASE_MS: '1000' };

let asked = 0;

interface Timed {
  received: Received;
  /** Longest time between two tokens, in milliseconds. */
  gapMs: number;
}

/** Asks for one answer and notes the longest gap between its tokens. */
async function ask(cluster: Cluster, onToken: (tokens: number) => void = () => undefined): Promise<Timed> {
  let last: number | undefined;
  let gapMs = 0;
  const received = await startAnswer(cluster.router, {
    api: 'grpc',
    prompt: SHORT_PROMPT,
    maxTokens: MAX_TOKENS,
    temperature: 0,
    seed: 7,
    placement: 'disaggregated',
    requestId: `experts-${++asked}`,
    signal: AbortSignal.timeout(LIMIT_MS),
    onReceived: ({ ids }) => {
      const now = performance.now();
      if (last !== undefined) gapMs = Math.max(gapMs, now - last);
      last = now;
      onToken(ids.length);
    },
  }).done;
  return { received, gapMs };
}

async function undisturbed(cluster: Cluster): Promise<Reference> {
  const { received } = await ask(cluster);
  expect(received.error).toBeUndefined();
  return { ids: received.ids, text: received.text };
}

/** Runs streams, calls `disturb` when each has some tokens, and expects every answer to be the undisturbed one. */
async function disturbed(cluster: Cluster, reference: Reference, disturb: () => Promise<void> | void): Promise<number> {
  const begun = new Set<number>();
  const all = Array.from({ length: STREAMS }, (_, stream) =>
    ask(cluster, (tokens) => {
      if (tokens >= 10) begun.add(stream);
    }),
  );
  await eventually(() => begun.size === STREAMS, { what: 'every stream to be under way', timeoutMs: 60_000 });
  await disturb();
  const answers = await Promise.all(all);
  for (const { received } of answers) {
    expect(difference(received, reference, 'grpc')).toBeUndefined();
    expect(received.attempts).toBe(1);
  }
  return Math.max(...answers.map(({ gapMs }) => gapMs));
}

const shards = (cluster: Cluster): ClusterWorker[] => cluster.workers.filter(({ role }) => role === 'expert');

async function again(cluster: Cluster, shard: ClusterWorker): Promise<void> {
  await cluster.startWorker('expert', shard.id);
  const count = shards(cluster).length;
  for (const worker of cluster.workers) {
    if (worker.role === 'expert') continue;
    await eventually(async () => (await metric(worker.observability, 'causeway_expert_shards_connected')) === count, {
      what: `${worker.id} to reach every shard`,
      timeoutMs: 30_000,
    });
  }
}

describe('experts that are on two shards', () => {
  let cluster: Cluster;
  let reference: Reference;
  /** Longest gap of 8 undisturbed streams. */
  let calmMs: number;
  beforeAll(async () => {
    cluster = await startCluster({
      model: MODEL,
      router: true,
      expert: 3,
      workerEnv: { ...SHARED, CAUSEWAY_EXPERT_COPIES: '2', CAUSEWAY_MAX_SEQUENCES: '8' },
    });
    reference = await undisturbed(cluster);
    calmMs = await disturbed(cluster, reference, () => undefined);
  }, LIMIT_MS);
  afterAll(() => cluster?.[Symbol.asyncDispose](), LIMIT_MS);

  it(
    'survive SIGKILL of one under 8 streams: same tokens, no gap a second longer than without',
    async () => {
      for (const shard of shards(cluster).slice(0, 2)) {
        const gapMs = await disturbed(cluster, reference, () => void shard.process.signal('KILL'));
        expect(gapMs, `longest gap after ${shard.id}`).toBeLessThan(calmMs + MOST_ADDED_MS);
        await again(cluster, shard);
      }
    },
    LIMIT_MS,
  );

  it(
    'survive a shard that stands still',
    async () => {
      const [, shard] = shards(cluster);
      const gapMs = await disturbed(cluster, reference, () => void shard?.process.signal('STOP'));
      shard?.process.signal('CONT');
      expect(gapMs).toBeLessThan(calmMs + MOST_ADDED_MS);
      const decode = cluster.workers.find(({ role }) => role === 'decode');
      const won = 'causeway_expert_frames_total{kind="hedge_won"}';
      expect(await metric(decode?.observability ?? '', won)).toBeGreaterThan(0);
    },
    LIMIT_MS,
  );

  it(
    'are used by the last placement while Redis is away',
    async () => {
      const gapMs = await disturbed(cluster, reference, () => cluster.redis.signal('KILL'));
      expect(gapMs).toBeLessThan(calmMs + MOST_ADDED_MS);
      await cluster.redis.start();
    },
    LIMIT_MS,
  );
});

describe('experts that are on one shard each', () => {
  let cluster: Cluster;
  let reference: Reference;
  beforeAll(async () => {
    cluster = await startCluster({
      model: MODEL,
      router: true,
      expert: 3,
      workerEnv: { ...SHARED, CAUSEWAY_MAX_SEQUENCES: '8', CAUSEWAY_EXPERT_WAIT_MS: '10000' },
    });
    reference = await undisturbed(cluster);
  }, LIMIT_MS);
  afterAll(() => cluster?.[Symbol.asyncDispose](), LIMIT_MS);

  it(
    'are placed on the others from the checkpoint when it dies, and streams go on',
    async () => {
      const [shard] = shards(cluster);
      const gapMs = await disturbed(cluster, reference, () => void shard?.process.signal('KILL'));
      expect(gapMs).toBeLessThan(10_000);
      const decode = cluster.workers.find(({ role }) => role === 'decode');
      expect(await metric(decode?.observability ?? '', 'causeway_expert_placement_epoch')).toBeGreaterThan(1);
      if (shard !== undefined) await again(cluster, shard);
    },
    LIMIT_MS,
  );

  it(
    'fail a request, naming layer and expert, when every shard is dead',
    async () => {
      for (const shard of shards(cluster)) shard.process.signal('KILL');
      const { received } = await ask(cluster);
      expect(received.error).toMatchObject({ code: 'unavailable' });
      expect(received.error?.message).toMatch(/expert \d+ of layer \d+ is not available/);
    },
    LIMIT_MS,
  );
});
