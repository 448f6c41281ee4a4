/** One encode or decode job over memory runs, on whichever thread. */
import { fail } from '@causeway/errors';
import { crc32c } from '@node-rs/crc32';
import type { KvCodec } from './codec.ts';
import type { DecodedPart, EncodedPart, MemoryRun } from './codec-messages.ts';
import { decodeBody, encodeBody } from './part-codec.ts';

/** Looks a run up; never copies. */
export type RunView = (run: MemoryRun) => Uint8Array;

/** Encodes the bytes of `raw` runs into `out`. Falls back to `none` when the codec doesn't make the part smaller. */
export function encodeRuns(
  codec: KvCodec,
  elementBytes: 1 | 2 | 4,
  raw: readonly MemoryRun[],
  out: MemoryRun,
  view: RunView,
): EncodedPart {
  const start = performance.now();
  const cpu = process.threadCpuUsage();
  const took = (): Pick<EncodedPart, 'encodeMs' | 'encodeCpuMs'> => {
    const { user, system } = process.threadCpuUsage(cpu);
    return { encodeMs: performance.now() - start, encodeCpuMs: (user + system) / 1000 };
  };
  const rawBytes = totalBytes(raw);
  if (rawBytes > out.length) fail('internal', 'internal', `a part of ${rawBytes} bytes for a frame buffer of ${out.length}`);
  const target = view(out);
  const pieces = raw.map(view);
  let rawCrc = 0;
  for (const piece of pieces) rawCrc = crc32c(piece, rawCrc);
  if (codec !== 'none') {
    const encodedBytes = encodeBody(codec, pieces, elementBytes, target);
    if (encodedBytes !== undefined) {
      const bodyCrc = crc32c(target.subarray(0, encodedBytes));
      return { codec, encodedBytes, rawBytes, rawCrc, bodyCrc, ...took() };
    }
  }
  let position = 0;
  for (const piece of pieces) {
    target.set(piece, position);
    position += piece.length;
  }
  return { codec: 'none', encodedBytes: rawBytes, rawBytes, rawCrc, bodyCrc: rawCrc, ...took() };
}

/**
 * Decodes a body into the `raw` runs; they are written only when size and checksum agree.
 * @throws ServiceError `malformed_frame` or `checksum`
 */
export function decodeRuns(
  codec: KvCodec,
  elementBytes: 1 | 2 | 4,
  body: Uint8Array,
  rawCrc: number,
  raw: readonly MemoryRun[],
  view: RunView,
): DecodedPart {
  const start = performance.now();
  const rawBytes = totalBytes(raw);
  const decoded = codec === 'none' ? body : decodeBody(codec, body, rawBytes, elementBytes);
  if (decoded.length !== rawBytes) {
    fail('invalid_argument', 'malformed_frame', `a raw body of ${body.length} bytes for a part of ${rawBytes}`);
  }
  const found = crc32c(decoded);
  if (found !== rawCrc) {
    fail('data_loss', 'checksum', `decoded bytes have CRC-32C ${hex(found)}, the header says ${hex(rawCrc)}`);
  }
  let position = 0;
  for (const run of raw) {
    view(run).set(decoded.subarray(position, position + run.length));
    position += run.length;
  }
  return { decodeMs: performance.now() - start };
}

/** Sum of the runs' lengths. */
export function totalBytes(runs: readonly MemoryRun[]): number {
  return runs.reduce((sum, run) => sum + run.length, 0);
}

function hex(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}
