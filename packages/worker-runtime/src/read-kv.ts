import { fail } from '@causeway/errors';
import type { KvDescriptor } from '@causeway/kv';
import { descriptorFromProto } from '@causeway/kv-transport';
import { workerV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';

const CALL_MS = 60_000;

/** What a dump is of. */
export interface DumpedKv {
  descriptor: KvDescriptor;
  /** Of the prompt. */
  tokens: number;
  pages: number;
  bytes: number;
}

/**
 * Reads the pages of a prompt whose answer the worker at `address` is writing; `take` gets their bytes in order and is waited for.
 * @throws ServiceError as the worker's `dumpKv`, `unavailable` when it can't be reached
 */
export async function readKv(address: string, requestId: string, take: (bytes: Uint8Array) => Promise<void>): Promise<DumpedKv> {
  using channels = createChannelPool();
  const stream = channels.client(workerV1.InspectDefinition, address).dumpKv({ requestId }, { deadlineMs: CALL_MS });
  let header: workerV1.KvDumpHeader | undefined;
  let bytes = 0;
  for await (const { part } of stream) {
    if (part?.$case === 'header') header = part.value;
    else if (part?.$case === 'pages') {
      bytes += part.value.length;
      await take(part.value);
    }
  }
  if (header === undefined) return fail('internal', 'internal', `the worker at ${address} sent no header`);
  const { tokens, pages, pageBytes } = header;
  if (bytes !== pages * Number(pageBytes)) {
    fail('data_loss', 'internal', `${bytes} bytes came where ${pages} pages of ${pageBytes} were told`);
  }
  return { descriptor: descriptorFromProto(header.descriptor), tokens, pages, bytes };
}
