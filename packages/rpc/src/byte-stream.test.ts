import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '@causeway/errors';
import { workerV1 } from '@causeway/proto';
import { eventually, freePort } from '@causeway/testkit';
import { expect, test } from 'vitest';
import { type ByteStream, type ChannelPool, createChannelPool, createRpcServer, rpcService } from './index.ts';

const PATH = '/causeway.worker.v1.Decode/Decode';

interface Talk extends AsyncDisposable {
  pool: ChannelPool;
  address: string;
  stream: ByteStream;
  messages: Uint8Array[];
  end: Promise<Error | undefined>;
  /** Handlers that have ended. */
  left: () => number;
}

/** A stream to a server that sends every message back, or fails at one of 3 bytes. */
async function talk(): Promise<Talk> {
  let left = 0;
  const same = { encode: (bytes: Uint8Array) => ({ finish: () => bytes }), decode: (bytes: Uint8Array) => bytes };
  const { decode } = workerV1.DecodeDefinition.methods;
  const definition = {
    name: 'Decode',
    fullName: 'causeway.worker.v1.Decode',
    methods: { decode: { ...decode, requestType: same, responseType: same } },
  } as const;
  const server = createRpcServer({
    host: '127.0.0.1',
    port: 0,
    reflection: false,
    services: [
      rpcService(definition, {
        decode: async function* (requests: AsyncIterable<Uint8Array>) {
          try {
            for await (const bytes of requests) {
              if (bytes.byteLength === 3) {
                throw new ServiceError('three', { code: 'invalid_argument', reason: 'bad_request', field: 'length' });
              }
              yield bytes;
            }
          } finally {
            left++;
          }
        },
      }),
    ],
  });
  const address = `127.0.0.1:${await server.listen()}`;
  const pool = createChannelPool();
  const messages: Uint8Array[] = [];
  const ended = Promise.withResolvers<Error | undefined>();
  const stream = pool.byteStream(PATH, address, { onMessage: (bytes) => messages.push(bytes), onEnd: ended.resolve });
  return {
    pool,
    address,
    stream,
    messages,
    end: ended.promise,
    left: () => left,
    [Symbol.asyncDispose]: async () => {
      pool[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

test('bytes go there and back as they are, in order', async () => {
  await using at = await talk();
  const sent = [new Uint8Array(1).fill(7), new Uint8Array(1 << 20).fill(9), new Uint8Array(5).subarray(1, 5)];
  for (const bytes of sent) at.stream.write(bytes);
  await eventually(() => at.messages.length === 3);
  expect(at.messages.map((bytes) => Buffer.compare(bytes, sent.shift() as Uint8Array))).toEqual([0, 0, 0]);
});

test("the server's error arrives whole; later messages are dropped", async () => {
  await using at = await talk();
  at.stream.write(new Uint8Array(3));
  expect(await at.end).toMatchObject({ code: 'invalid_argument', reason: 'bad_request', field: 'length', message: 'three' });
  at.stream.write(new Uint8Array(1));
  expect(at.messages).toEqual([]);
});

test('what was sent before its end is answered, then the stream ends; later messages are dropped', async () => {
  await using at = await talk();
  at.stream.write(new Uint8Array(1));
  at.stream.end();
  at.stream.write(new Uint8Array(2));
  expect(await at.end).toBeUndefined();
  expect(at.messages.map(({ byteLength }) => byteLength)).toEqual([1]);
});

test('a stream that rests gives nothing until it goes on, and nothing is lost', async () => {
  await using at = await talk();
  at.stream.pause();
  // More than the connection's window, so that the server is held up as well.
  const sizes = Array.from({ length: 40 }, (_, i) => (1 << 20) + i);
  for (const size of sizes) at.stream.write(new Uint8Array(size));
  at.stream.end();
  expect(await Promise.race([at.end, sleep(100, 'resting')])).toBe('resting');
  expect(at.messages).toEqual([]);
  at.stream.resume();
  expect(await at.end).toBeUndefined();
  expect(at.messages.map(({ byteLength }) => byteLength)).toEqual(sizes);
});

test('cancelling ends the handler and says no more', async () => {
  await using at = await talk();
  at.stream.write(new Uint8Array(1));
  await eventually(() => at.messages.length === 1);
  at.stream.cancel();
  await eventually(() => at.left() === 1);
  expect(await Promise.race([at.end, sleep(50, 'silent')])).toBe('silent');
});

test('a connection that the pool gives up, or that never was, ends the stream with worker_lost', async () => {
  await using at = await talk();
  at.stream.write(new Uint8Array(1));
  await eventually(() => at.messages.length === 1);
  at.pool.close(at.address);
  expect(await at.end).toMatchObject({ code: 'unavailable', reason: 'worker_lost', retry: 'other' });
  const lost = Promise.withResolvers<Error | undefined>();
  at.pool.byteStream(PATH, `127.0.0.1:${await freePort()}`, { onMessage: () => undefined, onEnd: lost.resolve });
  expect(await lost.promise).toMatchObject({ code: 'unavailable', reason: 'worker_lost' });
});
