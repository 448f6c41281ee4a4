import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { Lifecycle } from '@causeway/lifecycle';
import { createMetrics, createObservabilityServer, VERSION } from '@causeway/telemetry';
import { freePort } from '@causeway/testkit';
import { expect, test } from 'vitest';
import { checkProcesses, type ObservedProcess } from './processes.ts';

const stack = new AsyncDisposableStack();

/** A process of this version. */
async function present(id: string, reasons: readonly string[] = []): Promise<ObservedProcess> {
  const lifecycle = new Lifecycle();
  lifecycle.ready();
  const server = stack.use(
    createObservabilityServer({
      host: '127.0.0.1',
      port: 0,
      registry: createMetrics([]).registry,
      lifecycle,
      ready: () => reasons,
    }),
  );
  return { id, observability: `127.0.0.1:${await server.listen()}` };
}

/** A process of another version, as its metrics read; undefined: one from before there was a version in them. */
async function other(id: string, version: string | undefined): Promise<ObservedProcess> {
  const metrics = version === undefined ? 'up 1\n' : `causeway_build_info{version="${version}"} 1\n`;
  const server = createServer((request, response) => void response.end(request.url === '/metrics' ? metrics : '{"ready":true}'));
  stack.defer(() => void server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { id, observability: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

test('processes of one version that are ready are well; others are named, with what to do', async () => {
  await using _ = stack;
  const [a, b] = [await present('a'), await present('b')];
  expect(await checkProcesses([a, b])).toMatchObject([
    { level: 'ok', what: 'a, ready' },
    { level: 'ok', what: 'b, ready' },
    { level: 'ok', what: 'versions', found: expect.stringContaining(VERSION) },
  ]);
  const mixed = await checkProcesses([a, await other('old', '0.0.9'), await other('older', undefined)]);
  expect(mixed.at(-1)).toMatchObject({
    level: 'warning',
    found: `${VERSION} (a); 0.0.9 (old); unknown (older)`,
    todo: expect.stringContaining('same version'),
  });
  expect((await checkProcesses([await other('newer', '9.0.0')])).at(-1)).toMatchObject({
    level: 'warning',
    todo: expect.stringContaining('9.0.0'),
  });
  expect((await checkProcesses([await present('cut', ['NATS is not connected'])]))[0]).toMatchObject({
    level: 'problem',
    found: 'NATS is not connected',
    todo: expect.stringContaining('CAUSEWAY_NATS_URL'),
  });
  const silent = createTcpServer().listen(0, '127.0.0.1');
  stack.defer(() => void silent.close());
  await once(silent, 'listening');
  const hangs = { id: 'hangs', observability: `127.0.0.1:${(silent.address() as AddressInfo).port}` };
  expect(await checkProcesses([hangs])).toMatchObject([
    {
      level: 'problem',
      what: 'hangs, ready',
      found: expect.stringContaining('no answer'),
      todo: expect.stringContaining('hangs'),
    },
  ]);
  // What can't be reached is told by its address.
  expect(await checkProcesses([{ id: 'gone', observability: `127.0.0.1:${await freePort()}` }])).toEqual([]);
});
