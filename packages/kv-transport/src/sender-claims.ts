/** What a receiver checks of a sender's words against the object table. */
import { fail } from '@causeway/errors';
import type { kvV1 } from '@causeway/proto';
import type { PartTable } from './part-table.ts';
import { count } from './wire-types.ts';

/**
 * Raw bytes that a sender has on offer.
 * @throws ServiceError `malformed_frame` when a window or state is among them whose layer has not run the last chunk
 */
export function offeredBytes(table: PartTable, progress: kvV1.Progress): number {
  const offered = Math.min(count(progress.offeredBytes, 'offered_bytes'), table.totalBytes);
  const needed = table.finishedLayers(offered);
  if (progress.finishedLayers < needed) {
    const said = `it says that ${progress.finishedLayers} layers have run the last chunk`;
    bad(`the sender offers windows or states of ${needed} layers; ${said}`);
  }
  return offered;
}

/** @throws ServiceError `malformed_frame` when the manifest is of another table */
export function checkManifest(table: PartTable, manifest: kvV1.Manifest): void {
  const { parts, rawBytes, digest } = manifest;
  if (parts === table.partCount && count(rawBytes, 'raw_bytes') === table.totalBytes && digest.length === 32) return;
  const there = `${table.partCount} and ${table.totalBytes}`;
  bad(`the manifest names ${parts} parts and ${rawBytes} bytes; the object table has ${there}`);
}

function bad(message: string): never {
  return fail('invalid_argument', 'malformed_frame', message);
}
