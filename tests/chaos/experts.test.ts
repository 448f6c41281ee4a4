/** Failures of expert shards, met by running answers: no request fails, no token differs. Processes and signals are real. */
import { fileURLToPath } from 'node:url';
import { type Cluster, startCluster } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Reference } from './answers.ts';
import { again, ask, disturbed, expectNoPause, LIMIT_MS, shards, SHARED, undisturbed } from './expert-streams.ts';
import { metric } from './metric.ts';

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));

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
      workerEnv: { ...SHARED, CAUSEWAY_EXPERT_COPIES: '2' },
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
        await again(cluster, shard);
        await expectNoPause(cluster, reference, gapMs, calmMs);
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
      await expectNoPause(cluster, reference, gapMs, calmMs);
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
      await cluster.redis.start();
      await expectNoPause(cluster, reference, gapMs, calmMs);
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
      workerEnv: { ...SHARED, CAUSEWAY_EXPERT_WAIT_MS: '10000' },
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
