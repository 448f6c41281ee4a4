import { workerV1 } from '@causeway/proto';
import { type RpcService, rpcService } from '@causeway/rpc';
import type { Worker } from '@causeway/worker-runtime';
import { prefill } from './handlers/prefill.ts';

/** The gRPC services of a prefill worker. */
export function services(worker: Worker): readonly RpcService[] {
  return [rpcService(workerV1.PrefillDefinition, { prefill: (request, context) => prefill(worker, request, context) })];
}
