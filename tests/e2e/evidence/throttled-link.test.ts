/** A prefill worker behind a link of 50 Mbit/s: it finds out what the link carries, and compresses; behind a fast one it finds that out. */
import { connectRedis, RegistryView } from '@causeway/registry';
import { eventually, freePort, startShapedLink } from '@causeway/testkit';
import { expect, test } from 'vitest';
import { SMALL_MEMORY, startTestCluster, TINY_MOE } from './harness.ts';

const PROMPT = Array.from({ length: 1_024 }, (_, i) => 5 + ((i * 7_919) % 900));

test('a worker measures its link, chooses by it, and follows it when it changes', async () => {
  const port = await freePort();
  await using link = await startShapedLink({ target: port, bitsPerSecond: 50e6 });
  await using cluster = await startTestCluster({
    model: TINY_MOE,
    nats: { port },
    workerEnv: SMALL_MEMORY,
    env: { 'prefill-1': { CAUSEWAY_NATS_URL: `nats://127.0.0.1:${link.port}` } },
  });
  const ask = async (requestId: string): Promise<{ codec: string; megabytes: number }> => {
    await cluster.attempt({ promptIds: PROMPT, maxTokens: 2 }, { requestId });
    const line = await cluster
      .worker('prefill-1')
      .process.waitForLog(({ msg, requestId: of }) => msg === 'prefilled and sent' && of === requestId);
    const reason = String(line.codecReason);
    return { codec: String(line.codec), megabytes: Number(/the link carries ([\d.]+) MB\/s/.exec(reason)?.[1]) };
  };
  await ask('first');
  const slow = await ask('second');
  expect(slow.codec).toBe('planes+zstd');
  // 6.25 MB/s; a busy machine may carry less, nothing carries more
  expect(slow.megabytes).toBeGreaterThan(3);
  expect(slow.megabytes).toBeLessThan(7);
  // and tells of it
  await using redis = await connectRedis({ url: cluster.redis.url, deadlineMs: 10_000 });
  await using view = new RegistryView({ redis });
  const told = await eventually(
    async () => {
      const [known] = view.snapshot.workers.find(({ id }) => id === 'prefill-1')?.links ?? [];
      if (known?.codec !== 'planes+zstd') throw new Error('not yet');
      return known;
    },
    { what: 'the link in the registry' },
  );
  expect(told).toMatchObject({ to: 'decode-1', wire: 'f32', reason: expect.stringContaining('the link carries') });
  expect(told.bytesPerSecond).toBeGreaterThan(3e6);
  expect(told.bytesPerSecond).toBeLessThan(7e6);
  link.setRate(10e9);
  await ask('third');
  await ask('fourth');
  const fast = await ask('fifth');
  expect(fast.megabytes).toBeGreaterThan(2 * slow.megabytes);
});
