import { connect } from 'nats';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { eventually, findBinary, startNats, startProcess, startRedis } from './index.ts';

test('nats-server takes the payload limit, counts bytes and starts again on its port', async () => {
  await using nats = await startNats({ maxPayload: 65_536 });
  const connection = await connect({ servers: nats.url });
  expect(connection.info?.max_payload).toBe(65_536);
  connection.publish('a.subject', new Uint8Array(10_000));
  await connection.flush();
  const varz = await nats.varz();
  expect(varz.in_bytes).toBe(10_000);
  expect(varz.in_msgs).toBe(1);
  await connection.close();

  const { pid } = nats.server;
  await nats.signal('KILL');
  await expect(connect({ servers: nats.url, timeout: 500, reconnect: false })).rejects.toThrow();
  await nats.start();
  expect(nats.server.pid).not.toBe(pid);
  const again = await connect({ servers: nats.url });
  await again.close();
});

test('redis-server is empty after a restart and hangs while it is stopped', async () => {
  await using redis = await startRedis();
  const client = new Redis(redis.url, { commandTimeout: 300, retryStrategy: () => 50 });
  client.on('error', () => undefined);
  await client.set('key', 'value');
  await redis.signal('STOP');
  await expect(client.get('key')).rejects.toThrow(/timed out/i);
  await redis.signal('CONT');
  expect(await eventually(() => client.get('key'))).toBe('value');
  await redis.stop();
  await redis.start();
  await eventually(async () => (await client.ping()) === 'PONG');
  expect(await client.get('key')).toBeNull();
  client.disconnect();
});

test('a missing binary is reported with the package to install', () => {
  expect(() => findBinary('nats-server-of-another-name', 'nats-server', '/nonexistent')).toThrow(/apt-get install nats-server/);
});

test('a started process shows its logs and how it ended', async () => {
  await using child = startProcess({
    nodeArgs: ['-e'],
    script:
      'process.on("SIGTERM", () => process.exit(7)); console.log("plain"); console.log(JSON.stringify({msg: "up", pid: process.pid})); setInterval(() => {}, 1000)',
    env: { CAUSEWAY_X: '1' },
  });
  const line = await child.waitForLog((log) => log['msg'] === 'up');
  expect(line['pid']).toBe(child.pid);
  expect(child.logs()).toHaveLength(1);
  expect(child.lines).toHaveLength(2);
  expect(await child.stop()).toEqual({ code: 7, signal: null });
});

test('waiting for a line of a process that ends fails with its output', async () => {
  await using child = startProcess({ nodeArgs: ['-e'], script: 'console.error("what went wrong"); process.exit(3)' });
  await expect(child.waitForLine(/never/)).rejects.toThrow(/what went wrong/);
  expect((await child.exited).code).toBe(3);
});

test('eventually gives the value, and the last error when the time is over', async () => {
  let calls = 0;
  expect(await eventually(() => (++calls > 2 ? 'there' : undefined), { intervalMs: 1 })).toBe('there');
  const never = eventually(
    () => {
      throw new Error('still dark');
    },
    { timeoutMs: 30, intervalMs: 5, what: 'light' },
  );
  await expect(never).rejects.toThrow(/light did not come true within 30 ms: still dark/);
});
