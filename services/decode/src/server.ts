import { workerV1 } from '@causeway/proto';
import { type RpcService, rpcService } from '@causeway/rpc';
import type { Worker } from '@causeway/worker-runtime';
import { decode } from './handlers/decode.ts';

/** The gRPC services of a decode worker. */
export function services(worker: Worker): readonly RpcService[] {
  return [rpcService(workerV1.DecodeDefinition, { decode: (commands, context) => decode(worker, commands, context) })];
}
