import { connectRedis, type RedisConnection } from '@causeway/registry';
import { createLogger } from '@causeway/telemetry';
import { connectDeafNatsPeer, connectNatsPeer, eventually, natsPublication, startNats, startRedis } from '@causeway/testkit';
import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { createWorkerMetrics } from './metrics.ts';
import { exportNatsServer } from './nats-server-stats.ts';

const log = createLogger({ service: 'test', level: 'fatal' });

interface ScrapedWorker extends AsyncDisposable {
  registry: Registry;
}

async function worker(workerId: string, url: string, redis: RedisConnection): Promise<ScrapedWorker> {
  const registry = new Registry();
  const told = await exportNatsServer(createWorkerMetrics(registry), { url, redis, workerId, log });
  return { registry, [Symbol.asyncDispose]: () => told[Symbol.asyncDispose]() };
}

async function scrape(registry: Registry): Promise<Map<string, number>> {
  const lines = (await registry.metrics()).matchAll(/^(causeway_nats_server_\S+) (\S+)$/gm);
  return new Map([...lines].map(([, name, value]) => [name ?? '', Number(value)]));
}

test("a worker's metrics have the server's bytes, what waits in it, its slow consumers; they go on when it starts anew", async () => {
  await using nats = await startNats({ extraConfig: 'max_pending: 4194304\nwrite_deadline: "1s"' });
  await using server = await startRedis();
  await using redis = await connectRedis({ url: server.url, deadlineMs: 10_000 });
  await using only = await worker('d', nats.monitoringUrl, redis);
  const { registry } = only;
  const before = await scrape(registry);
  expect(before.get('causeway_nats_server_slow_consumers_total')).toBe(0);

  const deaf = await connectDeafNatsPeer(nats.port, 'x');
  const sender = await connectNatsPeer(nats.port);
  sender.resume();
  // More than the kernel's buffers take, less than the server keeps at once.
  const message = natsPublication('x', 262_144);
  const waits = async (): Promise<boolean> => {
    sender.write(message);
    return ((await scrape(registry)).get('causeway_nats_server_pending_bytes') ?? 0) > 0;
  };
  await eventually(waits, { timeoutMs: 20_000, intervalMs: 20, what: 'bytes that wait for the client that reads nothing' });
  const cutOff = async (): Promise<boolean> => {
    sender.write(message);
    return ((await scrape(registry)).get('causeway_nats_server_slow_consumers_total') ?? 0) > 0;
  };
  await eventually(cutOff, { timeoutMs: 20_000, intervalMs: 50, what: 'a slow consumer' });
  const busy = await scrape(registry);
  expect(busy.get('causeway_nats_server_bytes_total{direction="in"}')).toBeGreaterThan(262_144);
  expect(busy.get('causeway_nats_server_messages_total{direction="in"}')).toBeGreaterThan(0);
  expect(busy.get('causeway_nats_server_connections')).toBeGreaterThanOrEqual(1);
  deaf.destroy();
  sender.destroy();

  await nats.stop();
  // While it is away a scrape has what was known last.
  expect((await scrape(registry)).get('causeway_nats_server_slow_consumers_total')).toBe(
    busy.get('causeway_nats_server_slow_consumers_total'),
  );
  await nats.start();
  const again = await connectNatsPeer(nats.port);
  again.write('PUB x 5\r\nhello\r\n');
  const counted = 'causeway_nats_server_messages_total{direction="in"}';
  const after = await eventually(
    async () => {
      const now = await scrape(registry);
      return (now.get(counted) ?? 0) > (busy.get(counted) ?? 0) ? now : undefined;
    },
    { what: 'the message is counted' },
  );
  expect(after.get('causeway_nats_server_slow_consumers_total')).toBe(busy.get('causeway_nats_server_slow_consumers_total'));
  again.destroy();
}, 60_000);

describe('of several workers', () => {
  test('one tells, until it gives its place back; with Redis away nobody else does', async () => {
    await using nats = await startNats();
    await using server = await startRedis();
    await using redis = await connectRedis({ url: server.url, deadlineMs: 10_000 });
    await using elsewhere = await connectRedis({ url: server.url, deadlineMs: 10_000, namespace: 'other' });
    await using stack = new AsyncDisposableStack();
    const first = await worker('a', nats.monitoringUrl, redis);
    const second = stack.use(await worker('b', nats.monitoringUrl, redis));
    const stranger = stack.use(await worker('b', nats.monitoringUrl, elsewhere));

    expect((await scrape(first.registry)).size).toBe(7);
    expect(await scrape(second.registry)).toEqual(new Map());
    // Another cluster on the same servers has a worker of its own that tells.
    expect((await scrape(stranger.registry)).size).toBe(7);
    const asked = async (): Promise<number> => {
      const { http_req_stats: requests } = (await (await fetch(`${nats.monitoringUrl}/varz`)).json()) as {
        http_req_stats: Record<string, number>;
      };
      return requests['/connz'] ?? 0;
    };
    const before = await asked();
    for (let i = 0; i < 5; i++) await scrape(second.registry);
    expect(await asked()).toBe(before);

    await server.stop();
    await eventually(() => !redis.connected, { what: 'the loss of Redis is seen' });
    expect((await scrape(first.registry)).size).toBe(7);
    expect(await scrape(second.registry)).toEqual(new Map());
    await server.start();
    await eventually(() => redis.connected, { what: 'Redis is back' });
    expect((await scrape(first.registry)).size).toBe(7);

    await first[Symbol.asyncDispose]();
    expect(await scrape(first.registry)).toEqual(new Map());
    expect((await scrape(second.registry)).size).toBe(7);
  }, 60_000);
});
