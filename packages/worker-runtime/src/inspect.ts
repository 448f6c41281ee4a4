import { setImmediate as nextTurn } from 'node:timers/promises';
import { fail } from '@causeway/errors';
import { descriptorToProto } from '@causeway/kv-transport';
import { workerV1 } from '@causeway/proto';
import { type RpcService, rpcService } from '@causeway/rpc';
import type { Worker } from './worker.ts';

/** Bytes of one message of a dump. */
const PIECE_BYTES = 256 * 1024;

/** The gRPC service that looks into a worker. */
export function inspectService(worker: Worker): RpcService {
  return rpcService(workerV1.InspectDefinition, { dumpKv: (request) => dumpKv(worker, request.requestId) });
}

/**
 * The pages of a prompt whose answer is being written, kept in place meanwhile.
 * @throws ServiceError `bad_config` unless the deployment allows it, `not_found` naming the requests that there are
 */
async function* dumpKv({ config, live, pool }: Worker, requestId: string): AsyncGenerator<workerV1.KvDump> {
  if (config.kvInspect !== 'on') {
    fail(
      'failed_precondition',
      'bad_config',
      `worker ${config.workerId} shows no KV: set kvInspect in the topology (CAUSEWAY_KV_INSPECT=on)`,
    );
  }
  const prompt = live.find(requestId);
  if (prompt === undefined) {
    const there = live.requests.slice(-4).join(', ') || 'none';
    fail(
      'not_found',
      'not_found',
      `worker ${config.workerId} is writing no answer to request "${requestId}"; to these: ${there}`,
    );
  }
  const { tokens, pages: set } = prompt;
  using _hold = set.hold();
  const pages = set.pages.slice(0, Math.ceil(tokens / pool.descriptor.storage.blockTokens));
  const header = {
    descriptor: descriptorToProto(pool.descriptor),
    tokens,
    pages: pages.length,
    pageBytes: BigInt(pool.pageBytes),
  };
  yield { part: { $case: 'header', value: header } };
  for (const page of pages) {
    const bytes = pool.bytes(page);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      yield { part: { $case: 'pages', value: bytes.slice(at, at + PIECE_BYTES) } };
      await nextTurn();
    }
  }
}
