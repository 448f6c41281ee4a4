import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The checkout this program runs from. */
export const REPOSITORY = resolve(import.meta.dirname, '../../..');

/** Where a running cluster leaves its state: one per checkout. */
export interface RunPaths {
  /** `.causeway/run`. */
  folder: string;
  /** What runs: processes, ports, phase. */
  state: string;
  logs: string;
}

/** @param folder another place than `.causeway/run`: a second cluster of the same checkout, or a test */
export function runPaths(folder: string | undefined): RunPaths {
  const base = folder === undefined ? join(REPOSITORY, '.causeway', 'run') : resolve(folder);
  return { folder: base, state: join(base, 'state.json'), logs: join(base, 'logs') };
}

/** Log file of a service. Names come from topologies, where they cannot hold a slash. */
export function logFile(paths: RunPaths, service: string): string {
  return join(paths.logs, `${service}.log`);
}

/** A model by the name of a folder in `models/`, or by path relative to `base`. Undefined when there is neither. */
export function findModel(nameOrPath: string, base: string): string | undefined {
  const candidates = [resolve(base, nameOrPath)];
  if (!nameOrPath.includes('/')) candidates.unshift(join(REPOSITORY, 'models', nameOrPath));
  return candidates.find((candidate) => existsSync(candidate));
}
