import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, freePort } from '@causeway/testkit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Cluster } from './cluster.ts';
import { identify, isAlive } from './process-identity.ts';
import { probeReadyz, probeRedis } from './probes.ts';
import type { ServicePlan } from './service-plan.ts';
import { type ServiceEvent, Supervised } from './supervised.ts';

let folder: string;
const started: Supervised[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-supervised-'));
});

afterEach(async () => {
  for (const service of started.splice(0)) {
    service.kill();
    await service.stop();
  }
  rmSync(folder, { recursive: true, force: true });
});

/** A small HTTP service of the same outward shape as ours: ready by /readyz, ends on SIGTERM as told. */
function program(port: number, options: { onTerm?: string; before?: string; ready?: string } = {}): string {
  return `
    ${options.before ?? ''}
    const { createServer } = require('node:http');
    createServer((request, response) => {
      const ready = ${options.ready ?? 'true'};
      response.writeHead(ready ? 200 : 503, {'content-type': 'application/json'}).end(JSON.stringify({ready, reasons: ready ? [] : ['the model is being read']}));
    }).listen(${port}, '127.0.0.1', () => console.log('listening'));
    process.on('SIGTERM', () => { ${options.onTerm ?? 'process.exit(0)'} });
  `;
}

function plan(port: number, code: string, more: Partial<ServicePlan> = {}): ServicePlan {
  return {
    name: 'service',
    kind: 'prefill',
    command: process.execPath,
    args: ['-e', code],
    env: { PATH: process.env['PATH'] ?? '' },
    log: join(folder, 'service.log'),
    ports: { observability: port },
    observability: `127.0.0.1:${port}`,
    graceMs: 5000,
    probe: (signal) => probeReadyz(`127.0.0.1:${port}`, signal),
    ...more,
  };
}

function supervise(value: ServicePlan): { service: Supervised; events: ServiceEvent[] } {
  const events: ServiceEvent[] = [];
  const service = new Supervised(value, { onEvent: (event) => events.push(event), onChange: () => undefined });
  started.push(service);
  return { service, events };
}

const forever = new AbortController().signal;

test('a process whose port does not open by the deadline fails the start; SIGTERM then ends it for good', async () => {
  const elsewhere = await freePort();
  const { service, events } = supervise(plan(await freePort(), program(elsewhere)));
  await expect(service.start(400, forever)).rejects.toThrow(
    /service was not ready within 0.4 s: its port is not open yet\nthe end of .*service\.log:\n {2}\| listening/,
  );
  await service.stop();
  expect(events.at(-1)).toMatchObject({ kind: 'stopped', how: 'exit code 0' });
  expect(service.state).toMatchObject({ phase: 'stopped', restarts: 0 });
});

test('a process that dies after it was ready is reported with its last lines and started again', async () => {
  const port = await freePort();
  const { service, events } = supervise(plan(port, program(port)));
  await service.start(10_000, forever);
  const first = service.state.process;
  if (first === undefined) throw new Error('not running');
  process.kill(first.pid, 'SIGKILL');
  await eventually(() => service.state.phase === 'ready' && service.state.restarts === 1, { what: 'ready again' });
  expect(events.map((event) => event.kind)).toEqual(['ready', 'died', 'ready']);
  expect(events[1]).toMatchObject({ how: 'signal SIGKILL', pid: first.pid, tail: ['listening'] });
  expect(service.state.process?.pid).not.toBe(first.pid);
});

test('one that ends before it is ready fails the start with the end of its log', async () => {
  const { service } = supervise(plan(await freePort(), "console.error('no such model: x'); process.exit(2)"));
  await expect(service.start(10_000, forever)).rejects.toThrow(/ended before it was ready: exit code 2\n[^]*\| no such model: x/);
});

test('a program that does not exist fails the start', async () => {
  const { service } = supervise(plan(await freePort(), '', { command: '/nonexistent/program' }));
  await expect(service.start(10_000, forever)).rejects.toThrow(/did not start: .*ENOENT/);
});

test('a process that ignores SIGTERM, and its children, are killed when the grace is over', async () => {
  const port = await freePort();
  const before = "console.log(require('node:child_process').spawn('sleep', ['600']).pid);";
  const { service, events } = supervise(plan(port, program(port, { onTerm: '', before }), { graceMs: 300 }));
  await service.start(10_000, forever);
  const child = identify(Number(readFileSync(join(folder, 'service.log'), 'utf8').split('\n')[0]));
  if (child === undefined) throw new Error('the grandchild does not run');
  await service.stop();
  expect(events.at(-1)).toMatchObject({ kind: 'stopped', how: 'signal SIGKILL' });
  await eventually(() => !isAlive(child));
});

test('a suspended process is drained too', async () => {
  const port = await freePort();
  const { service, events } = supervise(plan(port, program(port)));
  await service.start(10_000, forever);
  process.kill(service.state.process?.pid ?? 0, 'SIGSTOP');
  await service.stop();
  expect(events.at(-1)).toMatchObject({ kind: 'stopped', how: 'exit code 0' });
});

test('a cluster starts servers before services and stops them in the other order; one failure stops the wait for all', async () => {
  const [a, b] = [await freePort(), await freePort()];
  const order = (name: string): Partial<ServicePlan> => ({ name, log: join(folder, `${name}.log`) });
  const events: string[] = [];
  const plans = [
    plan(a, program(a), { ...order('redis'), kind: 'redis' }),
    plan(b, program(b), { ...order('router'), kind: 'router' }),
  ];
  const cluster = new Cluster(plans, {
    onEvent: (service, event) => events.push(`${service.name} ${event.kind}`),
    onChange: () => undefined,
  });
  started.push(...cluster.services);
  await cluster.start(10_000, forever);
  await cluster.stop();
  expect(events).toEqual(['redis ready', 'router ready', 'router stopped', 'redis stopped']);

  const failing = new Cluster(
    [
      plan(a, program(a, { ready: 'false' }), { ...order('decode'), kind: 'decode' }),
      plan(b, 'process.exit(1)', { ...order('prefill'), kind: 'prefill' }),
    ],
    { onEvent: () => undefined, onChange: () => undefined },
  );
  started.push(...failing.services);
  await expect(failing.start(60_000, forever)).rejects.toThrow(/prefill ended before it was ready/);
  await failing.stop();
  expect(failing.services.map((service) => service.state.phase)).toEqual(['stopped', 'stopped']);
});

test('what a service says it waits for is passed on', async () => {
  const port = await freePort();
  writeFileSync(join(folder, 'service.log'), '');
  const { service } = supervise(plan(port, program(port, { ready: 'false' })));
  await expect(service.start(1500, forever)).rejects.toThrow(/was not ready within 1.5 s: the model is being read/);
});

test('a stranger on the port of a server is not taken for it', async () => {
  const stranger = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  const port = await freePort();
  await new Promise<void>((resolve) => stranger.listen(port, '127.0.0.1', resolve));
  expect(await probeRedis(port, AbortSignal.timeout(2000))).toEqual([`port ${port} answers "HTTP/1.1 400 Bad Request"`]);
  stranger.close();
});
