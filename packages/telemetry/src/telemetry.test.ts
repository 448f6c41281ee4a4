import { connect } from 'node:net';
import { Writable } from 'node:stream';
import { ServiceError } from '@causeway/errors';
import { Lifecycle, sleep } from '@causeway/lifecycle';
import { expect, test } from 'vitest';
import {
  createLogger,
  createMetrics,
  createObservabilityServer,
  METRICS,
  type MetricDefinition,
  monitorEventLoop,
  requestLogger,
} from './index.ts';

const definitions = Object.values(METRICS) as readonly MetricDefinition[];
const keys = Object.keys(METRICS) as (keyof typeof METRICS)[];

test('no metric is defined twice, and every one has a name of its own kind, one help text and good labels', () => {
  expect(new Set(definitions.map((d) => d.name)).size).toBe(definitions.length);
  expect(new Set(definitions.map((d) => d.help)).size).toBe(definitions.length);
  for (const { name, kind, help, labels, buckets } of definitions) {
    expect(name).toMatch(/^(vllm:|causeway_)[a-z0-9_]+$/);
    expect(help).toMatch(/\.$/);
    // vllm:iteration_tokens_total is a histogram in vLLM too.
    if (name !== 'vllm:iteration_tokens_total') expect(name.endsWith('_total'), name).toBe(kind === 'counter');
    expect(new Set(labels).size).toBe(labels.length);
    for (const label of labels) expect(label).toMatch(/^[a-z][a-z_]*$/);
    expect(buckets !== undefined).toBe(kind === 'histogram');
    expect([...(buckets ?? [])].sort((a, b) => a - b)).toEqual([...(buckets ?? [])]);
    if (name.startsWith('vllm:')) expect(labels[0]).toBe('model_name');
  }
});

test('all metrics together make one valid page', async () => {
  const metrics = createMetrics(keys, { nodeMetrics: true });
  metrics.timeToFirstToken.observe({ model_name: 'tiny-moe' }, 0.03);
  metrics.kvTransferBytes.inc({ codec: 'planes+zstd', src_chip: 'cpu', dst_chip: 'cpu' }, 1024);
  metrics.routerQueueDepth.set(3);
  const page = await metrics.registry.metrics();
  expect(page).toContain('vllm:time_to_first_token_seconds_bucket{le="0.04",model_name="tiny-moe"} 1');
  expect(page).toContain('causeway_kv_transfer_bytes_total{codec="planes+zstd",src_chip="cpu",dst_chip="cpu"} 1024');
  expect(page).toContain('causeway_router_queue_depth 3');
  expect(page).toContain('process_cpu_seconds_total');
  for (const { name, help } of definitions) expect(page.split(`# HELP ${name} ${help}\n`)).toHaveLength(2);
});

test('packages may ask for the same instrument of one registry', () => {
  const a = createMetrics(['handoffGap']);
  const b = createMetrics(['handoffGap', 'decodeRuns'], { registry: a.registry });
  expect(b.handoffGap).toBe(a.handoffGap);
});

test('log lines are JSON with service, level, time, request id and the whole error', () => {
  const lines: Record<string, unknown>[] = [];
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const logger = createLogger({ service: 'router', level: 'info', fields: { workerId: 'w' }, destination });
  logger.debug('not shown');
  const cause = new Error('socket closed', { cause: new Error('reset') });
  requestLogger(logger, 'req-1').error(
    { err: new ServiceError('lost', { code: 'unavailable', reason: 'worker_lost', retry: 'other', cause }) },
    'failed',
  );
  logger.info({ err: 'a string' }, 'odd');
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatchObject({
    level: 'error',
    service: 'router',
    workerId: 'w',
    requestId: 'req-1',
    msg: 'failed',
    err: {
      code: 'unavailable',
      reason: 'worker_lost',
      retry: 'other',
      message: 'lost',
      cause: { message: expect.stringContaining('socket closed') as string },
    },
  });
  expect(Date.parse(String(lines[0]?.['time']))).not.toBeNaN();
  expect(lines[1]).toMatchObject({ err: { message: 'a string' } });
});

/** Computes on this thread for `ms` of CPU time. */
function burn(ms: number): void {
  const start = process.threadCpuUsage();
  for (;;) {
    const used = process.threadCpuUsage(start);
    if ((used.user + used.system) / 1000 >= ms) return;
  }
}

test('one long turn is counted with its CPU time; short turns and waiting are not', async () => {
  const { registry } = createMetrics([]);
  using monitor = monitorEventLoop(registry);
  await sleep(20);
  const before = monitor.longTurns;
  for (let i = 0; i < 50; i++) {
    burn(1);
    await sleep(1);
  }
  const afterShort = monitor.longTurns;
  // A stall of this machine can lengthen a short turn, so most, not all, must stay uncounted.
  expect(afterShort - before).toBeLessThan(10);
  const blocked = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(blocked, 0, 0, 30);
  await sleep(10);
  expect(monitor.longTurns - afterShort).toBeLessThan(2);
  const beforeLong = monitor.longTurns;
  for (let i = 0; i < 5; i++) {
    burn(25);
    await sleep(10);
  }
  expect(monitor.longTurns - beforeLong).toBeGreaterThanOrEqual(5);
  expect(monitor.longestCpuMs).toBeGreaterThanOrEqual(25);
  const page = await registry.metrics();
  expect(page).toMatch(/causeway_event_loop_long_turns_total [1-9]/);
  const max = Number(/causeway_event_loop_delay_seconds\{quantile="1"\} (\S+)/.exec(page)?.[1]);
  expect(max).toBeGreaterThan(0.02);
  expect(page).toMatch(/causeway_event_loop_delay_seconds\{quantile="0.99"\} 0\.\d+/);
});

test('livez, readyz and metrics follow the process', async () => {
  const lifecycle = new Lifecycle();
  const { registry } = createMetrics(['handoffGap']);
  let reasons: string[] = [];
  await using server = createObservabilityServer({ host: '127.0.0.1', port: 0, registry, lifecycle, ready: () => reasons });
  expect(server.port).toBe(0);
  const base = `http://127.0.0.1:${await server.listen()}`;
  const get = async (path: string) => {
    const response = await fetch(base + path);
    return { status: response.status, body: (await response.json()) as unknown };
  };
  expect(await get('/livez')).toEqual({ status: 200, body: { state: 'starting' } });
  expect(await get('/readyz')).toEqual({
    status: 503,
    body: { ready: false, state: 'starting', reasons: ['the process is starting'] },
  });
  lifecycle.ready();
  expect((await get('/readyz?x=1')).status).toBe(200);
  reasons = ['NATS is not connected'];
  expect(await get('/readyz')).toEqual({ status: 503, body: { ready: false, state: 'ready', reasons } });
  lifecycle.drain('SIGTERM');
  expect((await get('/readyz')).body).toMatchObject({ reasons: ['the process is draining', 'NATS is not connected'] });
  const page = await (await fetch(`${base}/metrics`)).text();
  expect(page).toContain('causeway_lifecycle_state{state="draining"} 1');
  expect(page).toContain('causeway_lifecycle_state{state="ready"} 0');
  expect((await get('/nothing')).status).toBe(404);
  expect((await fetch(`${base}/metrics`, { method: 'POST' })).status).toBe(405);
});

test('rubbish on the port does no harm, and a port in use is reported', async () => {
  const { registry } = createMetrics([]);
  const lifecycle = new Lifecycle();
  await using server = createObservabilityServer({ host: '127.0.0.1', port: 0, registry, lifecycle });
  const port = await server.listen();
  await new Promise<void>((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('\u0016\u0003\u0001 not http\r\n\r\n'));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve());
    socket.resume();
  });
  expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200);
  const second = createObservabilityServer({ host: '127.0.0.1', port, registry, lifecycle });
  await expect(second.listen()).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining(String(port)) as string,
  });
  await server[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});
