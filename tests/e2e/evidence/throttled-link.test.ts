/** A prefill worker behind a link of 50 Mbit/s: it finds out what the link carries, chooses the codec that costs least there, and tells. */
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
  const ask = async (requestId: string): Promise<number> => {
    await cluster.attempt({ promptIds: PROMPT, maxTokens: 2 }, { requestId });
    const line = await cluster
      .worker('prefill-1')
      .process.waitForLog(({ msg, requestId: of }) => msg === 'prefilled and sent' && of === requestId);
    return Number(/the link carries ([\d.]+) MB\/s/.exec(String(line.codecReason))?.[1]);
  };
  await ask('first');
  await ask('second');
  const slow = await ask('third');
  // 6.25 MB/s; a busy machine may carry less. A frame after a pause finds what the link has saved up, a few ms of its rate: that much of it
  // takes no time.
  expect(slow).toBeGreaterThan(3);
  expect(slow).toBeLessThan(8);
  await using redis = await connectRedis({ url: cluster.redis.url, deadlineMs: 10_000 });
  await using view = new RegistryView({ redis });
  const told = await eventually(
    async () => {
      const [known] = view.snapshot.workers.find(({ id }) => id === 'prefill-1')?.links ?? [];
      const listed = [...(known?.reason.matchAll(/(none|zstd|planes\+zstd) ([\d.]+)/g) ?? [])];
      if (known === undefined || listed.length < 3) throw new Error(`not every codec was tried yet: ${known?.reason}`);
      return { ...known, listed: listed.map(([, codec, ms]) => ({ codec, ms: Number(ms) })) };
    },
    { what: 'the link in the registry' },
  );
  expect(told).toMatchObject({ to: 'decode-1', wire: 'f32', reason: expect.stringContaining('the link carries') });
  expect(told.codec).toBe(told.listed.reduce((least, other) => (other.ms < least.ms ? other : least)).codec);
  expect(told.bytesPerSecond).toBeGreaterThan(3e6);
  expect(told.bytesPerSecond).toBeLessThan(8e6);
  link.setRate(10e9);
  await ask('fourth');
  await ask('fifth');
  expect(await ask('sixth')).toBeGreaterThan(2 * slow);
});
