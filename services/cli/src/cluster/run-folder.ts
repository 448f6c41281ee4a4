/** Whether the folder that holds a cluster's state and logs can be written. */
import { accessSync, constants, existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { fail } from '@causeway/errors';
import { formatBytes } from '@causeway/topology';

/** Less than this is full: logs of a start take more. */
const MIN_BYTES = 4 * 1024 ** 2;

/** Room on the folder's disk, bytes, or what keeps it from being written. The folder itself need not be there yet. */
export function roomIn(folder: string): { free: number } | { problem: string } {
  let existing = folder;
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
  try {
    accessSync(existing, constants.W_OK);
    const { bavail, bsize } = statfsSync(existing);
    return { free: bavail * bsize };
  } catch (error) {
    return { problem: `${existing} cannot be written (${(error as NodeJS.ErrnoException).code ?? 'unknown cause'})` };
  }
}

/** @throws ServiceError `bad_config` when it is read-only or its disk is full: before anything is started that could not be recorded */
export function requireRoom(folder: string): void {
  const room = roomIn(folder);
  const what =
    'problem' in room ? room.problem : room.free < MIN_BYTES ? `its disk has ${formatBytes(room.free)} free` : undefined;
  if (what === undefined) return;
  fail(
    'failed_precondition',
    'bad_config',
    `state and logs belong in ${folder}, and ${what}: make room, or name another folder with CAUSEWAY_RUN_DIR`,
  );
}
