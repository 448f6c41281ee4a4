import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { healthV1, inferenceV1, reflectionV1, reflectionV1Alpha } from '@causeway/proto';
import { AsyncQueue } from '@causeway/lifecycle';
import { expect, test } from 'vitest';
import { createChannelPool, createRpcServer, type RpcServer, rpcService } from './index.ts';

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = healthV1.HealthCheckResponse_ServingStatus;
const INFERENCE = 'causeway.inference.v1.Inference';

function makeServer(): RpcServer {
  return createRpcServer({
    host: '127.0.0.1',
    port: 0,
    services: [
      rpcService(inferenceV1.InferenceDefinition, {
        tokenize: async (request) => ({ ids: [...Buffer.from(request.input?.$case === 'text' ? request.input.value : '')] }),
        generate: async function* () {
          yield { text: 'hello' };
        },
        listModels: async () => ({ models: [{ id: 'tiny-moe', architecture: 'deepseek_v3', contextLength: 2048 }] }),
      }),
    ],
  });
}

test('health follows setServing; watchers hear each change and end with the drain', async () => {
  await using server = makeServer();
  using pool = createChannelPool();
  const client = pool.client(healthV1.HealthDefinition, `127.0.0.1:${await server.listen()}`);
  expect(await client.check({})).toEqual({ status: NOT_SERVING });
  await expect(client.check({ service: 'unknown.Service' })).rejects.toMatchObject({ code: 'not_found' });
  const watch = client.watch({ service: INFERENCE })[Symbol.asyncIterator]();
  expect((await watch.next()).value).toEqual({ status: NOT_SERVING });
  server.setServing(true);
  expect((await watch.next()).value).toEqual({ status: SERVING });
  expect(await client.check({ service: INFERENCE })).toEqual({ status: SERVING });
  const unknown = client.watch({ service: 'unknown.Service' })[Symbol.asyncIterator]();
  expect((await unknown.next()).value).toEqual({ status: SERVICE_UNKNOWN });
  const drained = server.drain();
  expect((await watch.next()).value).toEqual({ status: NOT_SERVING });
  expect((await watch.next()).done).toBe(true);
  expect((await unknown.next()).done).toBe(true);
  await drained;
});

test.each([
  ['v1', reflectionV1.ServerReflectionDefinition],
  ['v1alpha', reflectionV1Alpha.ServerReflectionDefinition],
] as const)('reflection %s answers with files and all they import, and says what it does not know', async (_name, definition) => {
  await using server = makeServer();
  using pool = createChannelPool();
  const client = pool.client(definition, `127.0.0.1:${await server.listen()}`);
  const requests = new AsyncQueue<reflectionV1.ServerReflectionRequest>(8);
  const answers = client.serverReflectionInfo(requests)[Symbol.asyncIterator]();
  const ask = async (messageRequest: reflectionV1.ServerReflectionRequest['messageRequest']) => {
    requests.tryPush({ host: 'h', messageRequest });
    const { value } = await answers.next();
    return (value as reflectionV1.ServerReflectionResponse).messageResponse;
  };
  expect(await ask({ $case: 'listServices', value: '' })).toEqual({
    $case: 'listServicesResponse',
    value: { service: [{ name: INFERENCE }, { name: 'grpc.health.v1.Health' }] },
  });
  const names = async (symbol: string): Promise<string[]> => {
    const reply = await ask({ $case: 'fileContainingSymbol', value: symbol });
    if (reply?.$case !== 'fileDescriptorResponse') throw new Error(`unexpected ${reply?.$case}`);
    return reply.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
  };
  expect(await names(INFERENCE)).toEqual(['causeway/inference/v1/inference.proto']);
  expect(await names(`${INFERENCE}.Generate`)).toEqual(['causeway/inference/v1/inference.proto']);
  expect(await names('grpc.health.v1.HealthCheckResponse.ServingStatus')).toEqual(['grpc/health/v1/health.proto']);
  expect(await names('causeway.worker.v1.Decode')).toEqual(['causeway/worker/v1/worker.proto', 'causeway/kv/v1/kv.proto']);
  expect(await ask({ $case: 'fileByFilename', value: 'no/such.proto' })).toMatchObject({
    $case: 'errorResponse',
    value: { errorCode: 5 },
  });
  expect(await ask({ $case: 'fileContainingExtension', value: { containingType: 'x', extensionNumber: 1 } })).toMatchObject({
    $case: 'errorResponse',
  });
  expect(await ask(undefined)).toMatchObject({ $case: 'errorResponse', value: { errorCode: 3 } });
  requests.close();
  expect((await answers.next()).done).toBe(true);
});
