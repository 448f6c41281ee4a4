/** A router that starts without Redis, or with rubbish in it. */
import { fileURLToPath } from 'node:url';
import { WORKER_INDEX_KEY, workerKey } from '@causeway/registry';
import { eventually, freePort, type ServiceProcess, startProcess, startRedis } from '@causeway/testkit';
import { Redis } from 'ioredis';
import { afterEach, expect, it } from 'vitest';
import { Fabric, startFakeWorker } from './fake-worker.ts';
import { MODEL_PATH } from './harness.ts';

const SCRIPT = fileURLToPath(new URL('../../services/router/src/main.ts', import.meta.url));

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

function startRouter(redisUrl: string, env: Readonly<Record<string, string>> = {}): ServiceProcess {
  return stack.use(
    startProcess({
      script: SCRIPT,
      env: {
        CAUSEWAY_REDIS_URL: redisUrl,
        CAUSEWAY_MODEL_PATH: MODEL_PATH,
        CAUSEWAY_HTTP_PORT: '0',
        CAUSEWAY_GRPC_PORT: '0',
        ...env,
      },
    }),
  );
}

it('without Redis it waits, says what for, and gives up at the deadline with exit code 1', async () => {
  const port = await freePort();
  const began = performance.now();
  const router = startRouter(`redis://127.0.0.1:${port}`, { CAUSEWAY_STARTUP_DEADLINE_MS: '2500' });
  const waiting = await router.waitForLog((line) => /redis/i.test(String(line['msg'])), 20_000);
  expect(JSON.stringify(waiting)).toContain(String(port));
  expect(router.exit).toBeUndefined();
  expect(await router.exited).toMatchObject({ code: 1 });
  expect(performance.now() - began).toBeGreaterThan(2500);
  expect(router.tail()).toMatch(/redis/i);
  expect(router.logs().some((line) => line['msg'] === 'ready')).toBe(false);
});

it('without Redis it is alive but not ready, and serves as soon as Redis is there', async () => {
  const port = await freePort();
  const observability = await freePort();
  const router = startRouter(`redis://127.0.0.1:${port}`, {
    CAUSEWAY_STARTUP_DEADLINE_MS: '60000',
    CAUSEWAY_OBSERVABILITY_PORT: String(observability),
  });
  await router.waitForLog((line) => /redis/i.test(String(line['msg'])), 20_000);
  expect((await fetch(`http://127.0.0.1:${observability}/livez`)).status).toBe(200);
  expect((await fetch(`http://127.0.0.1:${observability}/readyz`)).status).toBe(503);
  stack.use(await startRedis({ port }));
  await router.waitForLog((line) => line['msg'] === 'ready', 30_000);
});

it('rubbish under our keys is ignored and counted, the workers beside it are served', async () => {
  const redis = stack.use(await startRedis());
  const client = new Redis(redis.url);
  await client.sadd(WORKER_INDEX_KEY, 'truncated', 'list', 'newer', 'bad id!', '');
  await client.set(workerKey('truncated'), '{"version":1,');
  await client.set(workerKey('list'), '[1,2,3]');
  await client.set(workerKey('newer'), JSON.stringify({ version: 99, id: 'newer' }));
  await client.hset(workerKey('hash'), 'a', 'b');
  await client.sadd(WORKER_INDEX_KEY, 'hash');
  client.disconnect();
  stack.use(
    await startFakeWorker({ id: 'decode-0', role: 'decode', redisUrl: redis.url, fabric: new Fabric(), script: { answer: [1] } }),
  );
  const router = startRouter(redis.url);
  const ready = await router.waitForLog((line) => line['msg'] === 'ready', 30_000);
  const url = `http://${String(ready['http'])}`;
  await eventually(async () => (await fetch(`${url}/readyz`)).ok, { what: 'the router to see its worker' });
  const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] };
  expect(models.data).toMatchObject([{ id: 'tiny-moe' }]);
  const metrics = await (await fetch(`http://${String(ready['observability'])}/metrics`)).text();
  expect(Number(/^causeway_registry_ignored_records_total (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThanOrEqual(4);
  expect(metrics).toContain('causeway_registry_workers{role="decode"} 1\n');
});
