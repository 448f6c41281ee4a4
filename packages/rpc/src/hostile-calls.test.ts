/** Texts, deadlines and sizes that gRPC's own machinery does not bear: every call ends, and says why. */
import { connect } from 'node:http2';
import { ServiceError } from '@causeway/errors';
import { sleep } from '@causeway/lifecycle';
import { inferenceV1 } from '@causeway/proto';
import { expect, test } from 'vitest';
import { createChannelPool, createRpcServer, type RpcServer, rpcService } from './index.ts';

type Tokenize = (text: string) => Promise<{ ids: number[] }>;

async function serve(tokenize: Tokenize, maxRequestBytes?: number): Promise<{ server: RpcServer; address: string }> {
  const server = createRpcServer({
    host: '127.0.0.1',
    port: 0,
    ...(maxRequestBytes === undefined ? {} : { maxRequestBytes }),
    services: [
      rpcService(inferenceV1.InferenceDefinition, {
        tokenize: (request) => tokenize(request.input?.$case === 'text' ? request.input.value : ''),
        generate: async function* () {
          yield { text: '' };
        },
        listModels: async () => ({ models: [] }),
      }),
    ],
  });
  return { server, address: `127.0.0.1:${await server.listen()}` };
}

const text = (value: string) => ({ input: { $case: 'text' as const, value } });

test.each([
  ['a pair that the cut to 2048 units would halve', `${'a'.repeat(2047)}${'😀'.repeat(50)}`],
  ['half a pair that a client sent', `model \ud83d is not served`],
  ['2048 characters of three bytes each', '語'.repeat(2048)],
])('an error message with %s arrives', async (_what, message) => {
  const { server, address } = await serve(() => {
    throw new ServiceError(message, { code: 'not_found', reason: 'unknown_model', field: 'a\ud83d' });
  });
  await using _server = server;
  using pool = createChannelPool();
  const client = pool.client(inferenceV1.InferenceDefinition, address);
  const error = await client.tokenize({}, { deadlineMs: 5000 }).catch((thrown: unknown) => thrown as ServiceError);
  expect(error).toMatchObject({ code: 'not_found', reason: 'unknown_model', field: 'a\ufffd' });
  const said = (error as ServiceError).message;
  expect(said.isWellFormed()).toBe(true);
  expect(said.length).toBeGreaterThan(500 < message.length ? 500 : 10);
  expect(message.toWellFormed().startsWith(said.slice(0, -1))).toBe(true);
  expect(encodeURI(said).length).toBeLessThan(8192);
});

test.each([2 ** 31, 2 ** 33, 1e11, Number.MAX_SAFE_INTEGER])(
  'a deadline in %d ms does not expire at once',
  async (deadlineMs) => {
    const { server, address } = await serve(async () => {
      await sleep(200);
      return { ids: [1] };
    });
    await using _server = server;
    using pool = createChannelPool();
    const client = pool.client(inferenceV1.InferenceDefinition, address);
    expect(await client.tokenize({}, { deadlineMs })).toEqual({ ids: [1] });
  },
);

test('a request over maxRequestBytes is refused; answers may be larger', async () => {
  const { server, address } = await serve(
    async (value) => ({ ids: Array.from({ length: value.length * 2 }, () => 99_999) }),
    1000,
  );
  await using _server = server;
  using pool = createChannelPool();
  const client = pool.client(inferenceV1.InferenceDefinition, address);
  expect((await client.tokenize(text('x'.repeat(900)))).ids).toHaveLength(1800);
  await expect(client.tokenize(text('x'.repeat(1001)))).rejects.toMatchObject({ code: 'resource_exhausted' });
});

test.each(['soon', '5x', 'S'])('the grpc-timeout %s is refused, and the server goes on', async (timeout) => {
  const { server, address } = await serve(async () => ({ ids: [1] }));
  await using _server = server;
  const session = connect(`http://${address}`);
  const request = session.request({
    ':method': 'POST',
    ':path': '/causeway.inference.v1.Inference/Tokenize',
    'content-type': 'application/grpc',
    te: 'trailers',
    'grpc-timeout': timeout,
  });
  request.end(Buffer.alloc(5));
  const status = await new Promise<unknown>((resolve, reject) => {
    request.on('response', (headers) => headers['grpc-status'] !== undefined && resolve(headers['grpc-status']));
    request.on('trailers', (headers) => resolve(headers['grpc-status']));
    request.on('error', reject);
    request.resume();
  });
  session.close();
  expect(status).toBe('13');
  using pool = createChannelPool();
  expect(await pool.client(inferenceV1.InferenceDefinition, address).tokenize({})).toEqual({ ids: [1] });
});
