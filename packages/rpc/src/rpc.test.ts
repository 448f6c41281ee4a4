import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { ServiceError } from '@causeway/errors';
import { AsyncQueue } from '@causeway/lifecycle';
import { healthV1, inferenceV1, workerV1 } from '@causeway/proto';
import { Metadata } from 'nice-grpc-common';
import { eventually, freePort, startProcess } from '@causeway/testkit';
import { expect, test } from 'vitest';
import { type ChannelPool, createChannelPool, createRpcServer, type RpcContext, type RpcServer, rpcService } from './index.ts';

type Tokenize = (request: inferenceV1.TokenizeRequest, context: RpcContext) => Promise<{ ids: number[] }>;
type Generate = (request: inferenceV1.GenerateRequest, context: RpcContext) => AsyncGenerator<{ text: string }, void, undefined>;

interface Fixture extends AsyncDisposable {
  server: RpcServer;
  pool: ChannelPool;
  address: string;
  inference: ReturnType<typeof inferenceClient>;
}

const inferenceClient = (pool: ChannelPool, address: string) => pool.client(inferenceV1.InferenceDefinition, address);

async function serve(handlers: {
  tokenize?: Tokenize;
  generate?: Generate;
  log?: { error: (fields: object) => void };
}): Promise<Fixture> {
  const server = createRpcServer({
    host: '127.0.0.1',
    port: 0,
    log: { debug: () => undefined, warn: () => undefined, error: (fields) => handlers.log?.error(fields) },
    services: [
      rpcService(inferenceV1.InferenceDefinition, {
        tokenize: handlers.tokenize ?? (async () => ({ ids: [1, 2, 3] })),
        generate:
          handlers.generate ??
          async function* () {
            yield { text: 'a' };
            yield { text: 'b' };
          },
        listModels: async () => ({ models: [] }),
      }),
    ],
  });
  const address = `127.0.0.1:${await server.listen()}`;
  const pool = createChannelPool();
  return {
    server,
    pool,
    address,
    inference: inferenceClient(pool, address),
    [Symbol.asyncDispose]: async () => {
      pool[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

const generate = (more: object = {}) => ({ model: '', maxTokens: 1, stop: [], placement: '', ...more });
async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

test('unary and streamed calls work, with the request id of the caller', async () => {
  const seen: string[] = [];
  await using f = await serve({
    tokenize: async (_request, context) => {
      seen.push(context.requestId);
      return { ids: [7] };
    },
  });
  expect(await f.inference.tokenize({}, { requestId: 'req-1' })).toEqual({ ids: [7] });
  await f.inference.tokenize({});
  await f.inference.tokenize({}, { metadata: Metadata({ 'x-causeway-request-id': 'bad id with spaces' }) });
  expect(seen[0]).toBe('req-1');
  expect(seen[1]).toMatch(/^[0-9a-f-]{36}$/);
  expect(seen[2]).toMatch(/^[0-9a-f-]{36}$/);
  expect((await collect(f.inference.generate(generate()))).map((r) => r.text)).toEqual(['a', 'b']);
});

const refusal = () =>
  new ServiceError('messages[0].content must be text – not a number', {
    code: 'resource_exhausted',
    reason: 'queue_full',
    retry: 'same',
    field: 'messages[0].größe',
    retryAfterSeconds: 2,
  });

test('a ServiceError arrives whole, from unary calls and in the middle of a stream', async () => {
  await using f = await serve({
    tokenize: async () => {
      throw refusal();
    },
    generate: async function* () {
      yield { text: 'first' };
      throw refusal();
    },
  });
  const whole = {
    name: 'ServiceError',
    code: 'resource_exhausted',
    reason: 'queue_full',
    retry: 'same',
    message: refusal().message,
    field: 'messages[0].größe',
    retryAfterSeconds: 2,
  };
  await expect(f.inference.tokenize({})).rejects.toMatchObject(whole);
  const got: string[] = [];
  const stream = async (): Promise<void> => {
    for await (const item of f.inference.generate(generate())) got.push(item.text);
  };
  await expect(stream()).rejects.toMatchObject(whole);
  expect(got).toEqual(['first']);
});

test('the cause of an unexpected error stays in the log of the server', async () => {
  const logged: object[] = [];
  await using f = await serve({
    log: { error: (fields) => void logged.push(fields) },
    tokenize: async () => {
      throw new TypeError('a secret path /etc/x');
    },
  });
  const error = await f.inference.tokenize({}, { requestId: 'r9' }).catch((e: unknown) => e as ServiceError);
  expect(error).toMatchObject({ code: 'internal', reason: 'internal' });
  expect((error as ServiceError).message).not.toContain('secret');
  expect(logged).toHaveLength(1);
  expect(logged[0]).toMatchObject({ requestId: 'r9', err: { cause: { message: 'a secret path /etc/x' } } });
});

test('a deadline reaches the handler and ends the call on both sides', async () => {
  const remaining: number[] = [];
  const ended = Promise.withResolvers<unknown>();
  await using f = await serve({
    tokenize: (_request, context) => {
      remaining.push(context.remainingMs());
      return new Promise((_, reject) => {
        context.signal.addEventListener('abort', () => {
          ended.resolve(context.signal.reason);
          reject(context.signal.reason as Error);
        });
      });
    },
    generate: async function* (_request, context) {
      remaining.push(context.remainingMs());
      yield { text: 'x' };
    },
  });
  const start = performance.now();
  await expect(f.inference.tokenize({}, { deadlineMs: 150 })).rejects.toMatchObject({
    code: 'deadline_exceeded',
    reason: 'deadline',
  });
  expect(performance.now() - start).toBeLessThan(1500);
  expect(['deadline', 'cancelled']).toContain(((await ended.promise) as ServiceError).reason);
  expect(remaining[0]).toBeGreaterThan(0);
  expect(remaining[0]).toBeLessThanOrEqual(151);
  await collect(f.inference.generate(generate()));
  expect(remaining[1]).toBe(Number.POSITIVE_INFINITY);
  await eventually(() => f.server.activeCalls === 0);
});

test('the internal header for the remaining time is not believed from outside', async () => {
  const remaining: number[] = [];
  await using f = await serve({
    tokenize: async (_request, context) => {
      remaining.push(context.remainingMs());
      return { ids: [] };
    },
  });
  await f.inference.tokenize({}, { metadata: Metadata({ 'x-causeway-internal-remaining-ms': '1' }) });
  expect(remaining).toEqual([Number.POSITIVE_INFINITY]);
});

test('cancelling, or leaving the loop, aborts the handler at once', async () => {
  const aborted = new AsyncQueue<string>(4);
  await using f = await serve({
    generate: async function* (_request, context) {
      context.signal.addEventListener('abort', () => aborted.tryPush((context.signal.reason as ServiceError).reason));
      for (let i = 0; !context.signal.aborted; i++) {
        yield { text: String(i) };
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
  });
  const controller = new AbortController();
  const run = collect(f.inference.generate(generate(), { signal: controller.signal }));
  await eventually(() => f.server.activeCalls === 1);
  controller.abort(new ServiceError('the client went away', { code: 'cancelled', reason: 'cancelled' }));
  await expect(run).rejects.toMatchObject({ message: 'the client went away' });
  expect(await aborted.shift()).toBe('cancelled');

  for await (const item of f.inference.generate(generate())) if (item.text === '2') break;
  expect(await aborted.shift()).toBe('cancelled');

  await expect(collect(f.inference.generate(generate(), { signal: AbortSignal.abort('no error object') }))).rejects.toMatchObject(
    { code: 'cancelled' },
  );
  await eventually(() => f.server.activeCalls === 0);
});

test('a bidirectional stream carries both ways, and its handler leaves a silent request stream when the call ends', async () => {
  const ended = Promise.withResolvers<unknown>();
  const server = createRpcServer({
    host: '127.0.0.1',
    port: 0,
    services: [
      rpcService(workerV1.DecodeDefinition, {
        decode: async function* (commands, context) {
          try {
            for await (const command of commands) {
              if (command.command?.$case === 'reserve') yield { event: { $case: 'reserved' as const, value: {} } };
            }
          } catch (error) {
            ended.resolve(error);
            throw error;
          } finally {
            ended.resolve(context.signal.aborted);
          }
        },
      }),
    ],
  });
  await using _server = server;
  const address = `127.0.0.1:${await server.listen()}`;
  using pool = createChannelPool();
  const commands = new AsyncQueue<workerV1.DecodeCommand>(4);
  const controller = new AbortController();
  const events = pool.client(workerV1.DecodeDefinition, address).decode(commands, { signal: controller.signal });
  const iterator = events[Symbol.asyncIterator]();
  commands.tryPush({ command: { $case: 'reserve', value: workerV1.Reserve.create({ requestId: 'r' }) } });
  expect((await iterator.next()).value).toMatchObject({ event: { $case: 'reserved' } });
  const next = iterator.next();
  controller.abort(new ServiceError('gone', { code: 'cancelled', reason: 'cancelled' }));
  await expect(next).rejects.toMatchObject({ reason: 'cancelled' });
  expect(await ended.promise).toMatchObject({ reason: 'cancelled' });
  await eventually(() => server.activeCalls === 0);
});

test('a peer that is not there fails at once; it is reached as soon as it listens', async () => {
  using pool = createChannelPool();
  const port = await freePort();
  const client = inferenceClient(pool, `127.0.0.1:${port}`);
  const start = performance.now();
  await expect(client.tokenize({})).rejects.toMatchObject({ code: 'unavailable', reason: 'worker_lost', retry: 'other' });
  expect(performance.now() - start).toBeLessThan(1000);
  await using server = createRpcServer({
    host: '127.0.0.1',
    port,
    services: [rpcService(healthV1.HealthDefinition, { check: async () => ({}), watch: async function* () {} })],
    health: false,
  });
  await server.listen();
  await eventually(() => pool.client(healthV1.HealthDefinition, `127.0.0.1:${port}`).check({}));
});

test('a peer that accepts the connection but never speaks fails within the connect limit', async () => {
  const silent = createTcpServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  using pool = createChannelPool({ connectTimeoutMs: 300 });
  const client = inferenceClient(pool, `127.0.0.1:${(silent.address() as AddressInfo).port}`);
  const start = performance.now();
  await expect(client.tokenize({})).rejects.toMatchObject({ reason: 'worker_lost' });
  expect(performance.now() - start).toBeLessThan(3000);
  pool[Symbol.dispose]();
  silent.close();
});

const PEER = `
import { createRpcServer, rpcService } from '${new URL('./index.ts', import.meta.url).href}';
import { inferenceV1 } from '${new URL('../../proto/src/index.ts', import.meta.url).href}';
const server = createRpcServer({ host: '127.0.0.1', port: 0, services: [rpcService(inferenceV1.InferenceDefinition, {
  tokenize: async () => ({ ids: [] }), listModels: async () => ({ models: [] }),
  generate: async function* () { yield { text: 'one' }; await new Promise((r) => setTimeout(r, 60000)); },
})] });
console.log(JSON.stringify({ port: await server.listen() }));
`;

test.each([
  ['KILL', 3000],
  ['STOP', 4000],
] as const)('a peer that gets SIG%s in mid stream is noticed', async (signal, limitMs) => {
  await using peer = startProcess({ nodeArgs: ['--input-type=module-typescript', '-e'], script: PEER, cwd: import.meta.dirname });
  const { port } = await peer.waitForLog((line) => line['port'] !== undefined);
  using pool = createChannelPool({ keepaliveTimeMs: 500, keepaliveTimeoutMs: 1000 });
  const iterator = inferenceClient(pool, `127.0.0.1:${String(port)}`)
    .generate(generate())
    [Symbol.asyncIterator]();
  expect((await iterator.next()).value).toMatchObject({ text: 'one' });
  const start = performance.now();
  const next = iterator.next();
  peer.signal(signal);
  await expect(next).rejects.toMatchObject({ code: 'unavailable', reason: 'worker_lost', retry: 'other' });
  expect(performance.now() - start).toBeLessThan(limitMs);
});

test('closing a connection in the pool fails its calls with worker_lost; keepOnly closes the others', async () => {
  await using f = await serve({
    generate: async function* (_request, context) {
      yield { text: 'x' };
      await new Promise((_, reject) => context.signal.addEventListener('abort', () => reject(context.signal.reason as Error)));
    },
  });
  const iterator = f.inference.generate(generate())[Symbol.asyncIterator]();
  await iterator.next();
  const next = iterator.next();
  f.pool.keepOnly(new Set([f.address]));
  expect(f.pool.addresses).toEqual([f.address]);
  f.pool.keepOnly(new Set());
  await expect(next).rejects.toMatchObject({ reason: 'worker_lost', retry: 'other' });
  expect(f.pool.addresses).toEqual([]);
  await eventually(() => f.server.activeCalls === 0);
});

test('messages over the limit are refused with the reason, on the way there and back', async () => {
  const server = createRpcServer({
    host: '127.0.0.1',
    port: 0,
    maxMessageBytes: 10_000,
    services: [
      rpcService(inferenceV1.InferenceDefinition, {
        tokenize: async (request) => ({ ids: request.model === 'big' ? Array.from({ length: 20_000 }, () => 300) : [] }),
        generate: async function* () {},
        listModels: async () => ({ models: [] }),
      }),
    ],
  });
  await using _server = server;
  using pool = createChannelPool();
  const client = inferenceClient(pool, `127.0.0.1:${await server.listen()}`);
  await expect(client.tokenize({ model: 'x'.repeat(20_000) })).rejects.toMatchObject({
    code: 'resource_exhausted',
    reason: 'payload_too_large',
  });
  await expect(client.tokenize({ model: 'big' })).rejects.toMatchObject({
    code: 'resource_exhausted',
    reason: 'payload_too_large',
  });
  expect(await client.tokenize({ model: 'small' })).toEqual({ ids: [] });
});

test('a drain lets running calls end, takes no new ones, and is forced by its signal', async () => {
  const gate = Promise.withResolvers<void>();
  await using f = await serve({
    tokenize: async (request, context) => {
      if (request.model === 'endless')
        await new Promise((_, reject) => context.signal.addEventListener('abort', () => reject(context.signal.reason as Error)));
      await gate.promise;
      return { ids: [5] };
    },
  });
  f.server.setServing(true);
  const running = f.inference.tokenize({});
  await eventually(() => f.server.activeCalls === 1);
  const force = new AbortController();
  const drained = f.server.drain(force.signal);
  using fresh = createChannelPool();
  await expect(inferenceClient(fresh, f.address).tokenize({})).rejects.toMatchObject({ reason: 'draining', retry: 'other' });
  gate.resolve();
  expect(await running).toEqual({ ids: [5] });
  await drained;

  await using g = await serve({
    tokenize: (_request, context) =>
      new Promise((_, reject) => context.signal.addEventListener('abort', () => reject(context.signal.reason as Error))),
  });
  const endless = g.inference.tokenize({});
  const failed = expect(endless).rejects.toMatchObject({ code: 'unavailable', reason: 'worker_lost', retry: 'other' });
  await eventually(() => g.server.activeCalls === 1);
  const forced = g.server.drain(force.signal);
  force.abort();
  await forced;
  await failed;
  await eventually(() => g.server.activeCalls === 0);
});

test('a call that outlasts several probes of its connection ends by itself in a drain', async () => {
  const probes = { keepaliveTimeMs: 50, keepaliveTimeoutMs: 1000 };
  const gate = Promise.withResolvers<void>();
  await using server = createRpcServer({
    host: '127.0.0.1',
    port: 0,
    ...probes,
    services: [
      rpcService(inferenceV1.InferenceDefinition, {
        tokenize: async () => {
          await gate.promise;
          return { ids: [5] };
        },
        generate: async function* () {},
        listModels: async () => ({ models: [] }),
      }),
    ],
  });
  using pool = createChannelPool(probes);
  const running = inferenceClient(pool, `127.0.0.1:${await server.listen()}`).tokenize({});
  await eventually(() => server.activeCalls === 1);
  const drained = server.drain();
  setTimeout(gate.resolve, 10 * probes.keepaliveTimeMs);
  expect(await running).toEqual({ ids: [5] });
  await drained;
});

test('a port in use is reported with its address', async () => {
  await using f = await serve({});
  const second = createRpcServer({ host: '127.0.0.1', port: f.server.port, services: [] });
  await expect(second.listen()).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining(f.address) as string,
  });
  await second[Symbol.asyncDispose]();
});

test.each(['', 'nowhere', 'host:0', 'host:70000', 'http://x:1', 'a b:1', '::1:50051'])('address %j is refused', (address) => {
  using pool = createChannelPool();
  expect(() => inferenceClient(pool, address)).toThrow(/host:port/);
});
