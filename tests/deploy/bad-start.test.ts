/** Processes that can't start as they are configured say which server or setting it is, and end with exit code 2. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { type ServiceProcess, startNats, startProcess, startRedis } from '@causeway/testkit';
import { afterEach, describe, expect, test } from 'vitest';
import { ROOT } from './manifests.ts';

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

const AUTHORIZATION = 'authorization { users = [ { user: "w", password: "right" } ] }';

async function servers(): Promise<{ CAUSEWAY_NATS_URL: string; redis: (password: string) => string }> {
  const nats = stack.use(await startNats({ extraConfig: AUTHORIZATION, login: { user: 'w', password: 'right' } }));
  const redis = stack.use(await startRedis({ args: ['--user', 'w', 'on', '>right', '~*', '+@all'] }));
  return { CAUSEWAY_NATS_URL: nats.url, redis: (password) => redis.url.replace('//', `//w:${password}@`) };
}

function start(service: 'router' | 'prefill' | 'decode' | 'expert', env: Record<string, string>): ServiceProcess {
  const own = service === 'router' ? { CAUSEWAY_HTTP_PORT: '0', CAUSEWAY_GRPC_PORT: '0' } : { CAUSEWAY_WORKER_ID: 'w' };
  return stack.use(
    startProcess({
      script: join(ROOT, `services/${service}/src/main.ts`),
      env: { CAUSEWAY_MODEL_PATH: join(ROOT, 'models/tiny-moe'), CAUSEWAY_STARTUP_DEADLINE_MS: '20000', ...own, ...env },
    }),
  );
}

const nats = (password: string) => ({ CAUSEWAY_NATS_USER: 'w', CAUSEWAY_NATS_PASSWORD: password });

describe('a wrong password', () => {
  test.each(['router', 'prefill', 'decode', 'expert'] as const)('at Redis: %s says so and ends', async (service) => {
    const { CAUSEWAY_NATS_URL, redis } = await servers();
    const own = service === 'router' || service === 'expert' ? {} : { CAUSEWAY_NATS_URL, ...nats('right') };
    const process = start(service, { ...own, CAUSEWAY_REDIS_URL: redis('wrong-secret') });
    expect(await process.exited).toMatchObject({ code: 2 });
    expect(process.tail()).toMatch(/Redis at redis:\/\/127\.0\.0\.1:\d+ refused.*WRONGPASS/);
    expect(process.tail()).not.toContain('wrong-secret');
  });

  test.each(['prefill', 'decode'] as const)('at NATS: %s says so and ends', async (service) => {
    const { CAUSEWAY_NATS_URL, redis } = await servers();
    const process = start(service, { CAUSEWAY_NATS_URL, ...nats('wrong-secret'), CAUSEWAY_REDIS_URL: redis('right') });
    expect(await process.exited).toMatchObject({ code: 2 });
    expect(process.tail()).toMatch(/NATS server refused this worker/);
    expect(process.tail()).not.toContain('wrong-secret');
  });
});

test('a database that Redis has not is refused, not replaced by another', async () => {
  const { redis } = await servers();
  const process = start('router', { CAUSEWAY_REDIS_URL: `${redis('right')}/99` });
  expect(await process.exited).toMatchObject({ code: 2 });
  expect(process.tail()).toContain('DB index');
});

test('a process whose port is taken says which, and ends before anybody is told of it', async () => {
  const { CAUSEWAY_NATS_URL, redis } = await servers();
  const holder = createServer().listen(0, '127.0.0.1');
  stack.defer(() => void holder.close());
  await once(holder, 'listening');
  const port = (holder.address() as AddressInfo).port;
  const taken = async (service: 'router' | 'decode' | 'expert', setting: string): Promise<void> => {
    const process = start(service, {
      ...(service === 'decode' ? { CAUSEWAY_NATS_URL, ...nats('right') } : {}),
      CAUSEWAY_REDIS_URL: redis('right'),
      [setting]: String(port),
    });
    expect(await process.exited, setting).toMatchObject({ code: 1 });
    expect(process.tail()).toMatch(new RegExp(`listen EADDRINUSE[^"]* 127\\.0\\.0\\.1:${port}`));
    expect(process.logs().some((line) => line['msg'] === 'ready')).toBe(false);
  };
  await Promise.all([
    taken('router', 'CAUSEWAY_HTTP_PORT'),
    taken('router', 'CAUSEWAY_GRPC_PORT'),
    taken('router', 'CAUSEWAY_OBSERVABILITY_PORT'),
    taken('decode', 'CAUSEWAY_RPC_PORT'),
    taken('expert', 'CAUSEWAY_RPC_PORT'),
  ]);
});

test.each(['decode', 'expert'] as const)(
  'an address that does not lead to the %s process is refused before anybody is told of it',
  async (role) => {
    const { CAUSEWAY_NATS_URL, redis } = await servers();
    const process = start(role, {
      ...(role === 'expert' ? {} : { CAUSEWAY_NATS_URL, ...nats('right') }),
      CAUSEWAY_REDIS_URL: redis('right'),
      CAUSEWAY_ADVERTISE_HOST: 'no-such-host.invalid',
    });
    expect(await process.exited).toMatchObject({ code: 2 });
    expect(process.tail()).toContain('no-such-host.invalid');
    expect(process.tail()).toContain('CAUSEWAY_ADVERTISE_HOST');
  },
);

test('a worker whose KV does not come through NATS ends, though it is connected: nobody is told of it', async () => {
  // Its subjects for control are open, those of its KV are not.
  const users =
    '[ { user: "w", password: "right", permissions: { publish: { deny: "causeway.>" }, subscribe: { deny: "causeway.>" } } } ]';
  const server = stack.use(
    await startNats({ extraConfig: `authorization { users = ${users} }`, login: { user: 'w', password: 'right' } }),
  );
  const redis = stack.use(await startRedis());
  const process = start('decode', { CAUSEWAY_NATS_URL: server.url, ...nats('right'), CAUSEWAY_REDIS_URL: redis.url });
  const { code } = await process.exited;
  expect(code).toBe(2);
  expect(process.tail()).toMatch(/KV that this worker sent to itself did not arrive .*NATS users/);
  expect(process.tail()).not.toMatch(/"msg":"ready"/);
});
