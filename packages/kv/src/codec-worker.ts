/** Thread that encodes and decodes parts; started by CodecPool. Reads and writes registered native memory in place. */
import { parentPort } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import { viewAddress } from '@causeway/ort';
import type { CodecRequest, CodecResponse, MemoryRun } from './codec-messages.ts';
import { CodecScratch } from './part-codec.ts';
import { decodeRuns, encodeRuns } from './part-job.ts';

const port = parentPort;
if (port === null) throw new Error('codec-worker.ts runs as a worker thread only');

const regions = new Map<number, Uint8Array>();
const scratch = new CodecScratch();

function view(run: MemoryRun): Uint8Array {
  const region = regions.get(run.region);
  if (region === undefined || run.offset < 0 || run.offset + run.length > region.length) {
    throw new Error(`memory run ${run.region}:${run.offset}+${run.length} is not registered`);
  }
  return region.subarray(run.offset, run.offset + run.length);
}

function answer(request: Extract<CodecRequest, { job: number }>): CodecResponse {
  const { job, codec, elementBytes } = request;
  try {
    if (request.kind === 'encode') {
      return { kind: 'encoded', job, part: encodeRuns(codec, elementBytes, request.raw, request.out, view, scratch) };
    }
    const { body, rawCrc, raw } = request;
    return { kind: 'decoded', job, part: decodeRuns(codec, elementBytes, view(body), rawCrc, raw, view, scratch) };
  } catch (error) {
    const reason =
      error instanceof ServiceError && (error.reason === 'checksum' || error.reason === 'malformed_frame')
        ? error.reason
        : 'internal';
    return { kind: 'failed', job, reason, message: error instanceof Error ? error.message : String(error) };
  }
}

port.on('message', (request: CodecRequest) => {
  switch (request.kind) {
    case 'register':
      regions.set(request.region, viewAddress(request.address, request.byteLength));
      break;
    case 'unregister':
      regions.delete(request.region);
      break;
    case 'encode':
    case 'decode':
      port.postMessage(answer(request));
      break;
    default:
      request satisfies never;
  }
});
