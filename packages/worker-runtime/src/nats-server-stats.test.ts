import { connect, type Socket } from 'node:net';
import { createLogger } from '@causeway/telemetry';
import { eventually, startNats } from '@causeway/testkit';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { createWorkerMetrics } from './metrics.ts';
import { exportNatsServer } from './nats-server-stats.ts';

const log = createLogger({ service: 'test', level: 'fatal' });

/** A client that speaks just enough of the protocol. */
async function client(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  await new Promise((done) => socket.once('data', done));
  socket.write('CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n');
  await new Promise((done) => socket.once('data', done));
  return socket;
}

async function scrape(registry: Registry): Promise<Map<string, number>> {
  const lines = (await registry.metrics()).matchAll(/^(causeway_nats_server_\S+) (\S+)$/gm);
  return new Map([...lines].map(([, name, value]) => [name ?? '', Number(value)]));
}

test("a worker's metrics have the server's bytes, what waits in it, its slow consumers; they go on when it starts anew", async () => {
  await using nats = await startNats({ extraConfig: 'max_pending: 4194304\nwrite_deadline: "1s"' });
  const registry = new Registry();
  await exportNatsServer(createWorkerMetrics(registry), nats.monitoringUrl, log);
  const before = await scrape(registry);
  expect(before.get('causeway_nats_server_slow_consumers_total')).toBe(0);

  const deaf = await client(nats.port);
  deaf.on('error', () => undefined);
  deaf.pause();
  deaf.write('SUB x 1\r\n');
  const sender = await client(nats.port);
  sender.resume();
  // More than the kernel's buffers take, less than the server keeps at once.
  const message = Buffer.concat([Buffer.from('PUB x 262144\r\n'), Buffer.alloc(262_144), Buffer.from('\r\n')]);
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
  const again = await client(nats.port);
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
