/** Thread that encodes and decodes parts and converts pages; started by CodecPool. Reads and writes registered native memory in place. */
import { parentPort } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import { serveThread, viewAddress } from '@causeway/ort';
import type { CodecRequest, CodecResponse, ConvertJob, DecodedPart, MemoryRun } from './codec-messages.ts';
import { BlockConverter } from './convert-block.ts';
import { decodeRuns, encodeRuns } from './part-job.ts';

const port = parentPort;
if (port === null) throw new Error('codec-worker.ts runs as a worker thread only');

const regions = new Map<number, Uint8Array>();
const converters = new Map<number, BlockConverter>();

function view(run: MemoryRun): Uint8Array {
  const region = regions.get(run.region);
  if (region === undefined || run.offset < 0 || run.offset + run.length > region.length) {
    throw new Error(`memory run ${run.region}:${run.offset}+${run.length} is not registered`);
  }
  return region.subarray(run.offset, run.offset + run.length);
}

function answer(request: Extract<CodecRequest, { job: number }>): CodecResponse {
  const { job } = request;
  try {
    if (request.kind === 'convert') return { kind: 'converted', job, part: convert(request) };
    const { codec, elementBytes } = request;
    if (request.kind === 'encode') {
      return { kind: 'encoded', job, part: encodeRuns(codec, elementBytes, request.raw, request.out, view) };
    }
    const { body, rawCrc, raw } = request;
    return { kind: 'decoded', job, part: decodeRuns(codec, elementBytes, view(body), rawCrc, raw, view) };
  } catch (error) {
    const reason =
      error instanceof ServiceError && (error.reason === 'checksum' || error.reason === 'malformed_frame')
        ? error.reason
        : 'internal';
    return { kind: 'failed', job, reason, message: error instanceof Error ? error.message : String(error) };
  }
}

/** Converts blocks one after another; returns what it took. */
function convert(job: ConvertJob): DecodedPart {
  const start = performance.now();
  const converter = converters.get(job.converter);
  if (converter === undefined) throw new Error(`converter ${job.converter} is not known`);
  for (const block of job.blocks) {
    const page = view({ region: job.pageRegion, offset: block.page, length: job.pageBytes });
    const wire = view({ region: job.wireRegion, offset: block.wire, length: job.wireBytes });
    if (job.way === 'toWire') converter.toWire(page, wire, job.layers);
    else converter.fromWire(wire, page, job.layers);
  }
  return { decodeMs: performance.now() - start };
}

serveThread<CodecRequest>(port, (request) => {
  switch (request.kind) {
    case 'register':
      regions.set(request.region, viewAddress(request.address, request.byteLength));
      break;
    case 'unregister':
      regions.delete(request.region);
      break;
    case 'converter':
      converters.set(request.converter, new BlockConverter(request.descriptor, request.wire));
      break;
    case 'convert':
    case 'encode':
    case 'decode':
      port.postMessage(answer(request));
      break;
    default:
      request satisfies never;
  }
});
