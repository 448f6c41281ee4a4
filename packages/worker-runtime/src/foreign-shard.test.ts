/** A shard whose experts are of another precision joins shards of the same model. Real Redis, real shards, their own controllers. */
import type { ShardNode } from '@causeway/experts';
import { ExpertView } from '@causeway/experts/placing';
import { openCheckpoint } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { connectRedis } from '@causeway/registry';
import { eventually, startRedis } from '@causeway/testkit';
import { expect, it } from 'vitest';
import { modelFolder, startTestShard } from './testing/expert-cluster.ts';

it.each(['joins', 'is there first'])(
  'a shard of another precision that %s takes nothing over, and says why it is not ready',
  async (when) => {
    await using stack = new AsyncDisposableStack();
    const server = stack.use(await startRedis());
    const checkpoint = stack.use(await openCheckpoint(modelFolder('tiny-moe')));
    const runtime = stack.use(Runtime.create({ threads: 2 }));
    const redis = stack.use(await connectRedis({ url: server.url, deadlineMs: 5000 }));
    const onCrash = (error: unknown): void => {
      throw error;
    };
    const start = async (id: string, precision: 'exact' | 'fast', firstWaitMs: number): Promise<ShardNode> =>
      stack.use(
        await startTestShard({
          id,
          model: 'm',
          precision,
          runtime,
          checkpoint,
          redis,
          placing: { minCopies: 1, hotCopies: 0, expectedShards: 2, firstWaitMs },
        }),
      );
    // A foreigner that needn't wait for others.
    const foreigner = (): Promise<ShardNode> => start('foreign', 'fast', when === 'joins' ? 0 : 60_000);
    const early = when === 'joins' ? undefined : await foreigner();
    const own = [await start('a', 'exact', 60_000), await start('b', 'exact', 60_000)];
    const view = stack.use(new ExpertView({ redis, model: 'm', onCrash, pollMs: 20 }));
    await eventually(() => view.snapshot.placement !== undefined, { what: 'a first placement', timeoutMs: 30_000 });
    const foreign = early ?? (await foreigner());
    await eventually(() => own.every(({ missing }) => missing.length === 0), {
      what: 'the shards to be ready',
      timeoutMs: 30_000,
    });
    await eventually(() => foreign.missing.join().includes('another model or precision'), { timeoutMs: 30_000 });
    const { placement } = view.snapshot;
    expect([...(placement?.shards ?? [])].sort()).toEqual(['a', 'b']);
    expect(placement?.fingerprint).toBe(own[0]?.fingerprint);
    // The lock outlives its holder for three seconds: then the foreigner could have it.
    const epoch = placement?.epoch;
    await own[0]?.drain(AbortSignal.timeout(1));
    await own[0]?.[Symbol.asyncDispose]();
    await eventually(() => view.snapshot.placement?.shards.join() === 'b', { what: 'the other shard alone', timeoutMs: 30_000 });
    expect(view.snapshot.placement?.epoch).toBeGreaterThan(epoch ?? 0);
    expect(view.snapshot.placement?.fingerprint).toBe(own[1]?.fingerprint);
    expect(foreign.held.experts).toBe(0);
  },
  120_000,
);
