/**
 * A network that is cut between one worker and one shard, and a shard that dies while a placement changes, under running answers.
 * Takes half a minute: CAUSEWAY_TEST_FULL=1 runs it.
 */
import { fileURLToPath } from 'node:url';
import { ExpertView, type Placement } from '@causeway/experts/placing';
import { connectRedis } from '@causeway/registry';
import { type Cluster, type CutLink, eventually, freePort, startCluster, startCutLink } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Reference } from './answers.ts';
import { again, ask, connected, disturbed, expectNoPause, LIMIT_MS, SHARED, shards, undisturbed } from './expert-streams.ts';
import { metric } from './metric.ts';

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));

const skip = process.env['CAUSEWAY_TEST_FULL'] !== '1';

describe.skipIf(skip)('experts on two shards', () => {
  let cluster: Cluster;
  let reference: Reference;
  /** Longest gap of 8 undisturbed streams. */
  let calmMs: number;
  const links = new AsyncDisposableStack();
  /** Every connection to expert-2's gRPC port goes through it; the decode worker's is the first. */
  let link: CutLink;

  beforeAll(async () => {
    const [rpc, observability] = [await freePort(), await freePort()];
    const through = (port: number): Promise<CutLink> =>
      startCutLink({ host: '127.0.0.2', port, target: { host: '127.0.0.1', port } });
    link = links.use(await through(rpc));
    links.use(await through(observability));
    cluster = await startCluster({
      model: MODEL,
      router: true,
      prefill: 0,
      expert: 3,
      workerEnv: { ...SHARED, CAUSEWAY_EXPERT_COPIES: '2' },
      env: {
        'expert-2': {
          CAUSEWAY_ADVERTISE_HOST: '127.0.0.2',
          CAUSEWAY_RPC_PORT: String(rpc),
          CAUSEWAY_OBSERVABILITY_PORT: String(observability),
        },
      },
    });
    await connected(cluster.worker('decode-1'), 3);
  }, LIMIT_MS);
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await links.disposeAsync();
  }, LIMIT_MS);

  it(
    'a cut between one worker and one shard costs no request and no token; the other worker goes on with all shards',
    async () => {
      const [ofDecode, ...others] = link.connections;
      if (ofDecode === undefined || others.length > 0)
        throw new Error(`${1 + others.length} connections; only the decode worker has one`);
      await cluster.startWorker('prefill', 'prefill-1');
      await connected(cluster.worker('prefill-1'), 3);
      const known = 'causeway_registry_workers{role="prefill"}';
      await eventually(async () => (await metric(cluster.router.observability, known)) === 1, {
        what: 'the router to see prefill-1',
      });
      reference = await undisturbed(cluster);
      calmMs = await disturbed(cluster, reference, () => undefined);
      const gapMs = await disturbed(cluster, reference, () => link.cut(ofDecode));
      await expectNoPause(cluster, reference, gapMs, calmMs);
      await connected(cluster.worker('decode-1'), 2);
      expect(await metric(cluster.worker('prefill-1').observability, 'causeway_expert_shards_connected')).toBe(3);
      expect((await ask(cluster)).received.ids).toEqual(reference.ids);
      link.heal();
      await connected(cluster.worker('decode-1'), 3);
    },
    LIMIT_MS,
  );

  it(
    'a shard that dies while others load a new placement is left out of it, and no answer notices',
    async () => {
      await using redis = await connectRedis({ url: cluster.redis.url, deadlineMs: 5000 });
      await using view = new ExpertView({ redis, model: 'tiny-moe', pollMs: 20 });
      await view.loaded;
      const { placement } = view.snapshot;
      if (placement === undefined) throw new Error('there is no placement');
      // Every expert moves to the next shard, so that all have to load.
      const layers = Object.fromEntries(
        Object.entries(placement.layers).map(([layer, experts]) => [
          layer,
          experts.map((homes) => homes.map((shard) => (shard + 1) % placement.shards.length)),
        ]),
      );
      const next: Placement = { ...placement, epoch: placement.epoch + 1, layers };
      const victim = shards(cluster).find(({ id }) => id === 'expert-3');
      if (victim === undefined) throw new Error('there is no expert-3');
      const gapMs = await disturbed(cluster, reference, async () => {
        expect(await view.store.propose(next, { current: placement.epoch, next: 0 })).toBe(true);
        victim.process.signal('KILL');
      });
      await expectNoPause(cluster, reference, gapMs, calmMs);
      await eventually(() => view.snapshot.placement?.shards.includes('expert-3') === false, {
        what: 'a placement without the dead shard',
        timeoutMs: 30_000,
      });
      const homes = Object.values(view.snapshot.placement?.layers ?? {}).flat();
      expect(homes.every((list) => list.length === 2)).toBe(true);
      expect((await ask(cluster)).received.ids).toEqual(reference.ids);
      await again(cluster, victim);
    },
    LIMIT_MS,
  );
});
