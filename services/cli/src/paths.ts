import { existsSync, statSync } from 'node:fs';
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

/** Models that came with the program. */
export const BUILT_IN_MODELS = join(REPOSITORY, 'models');

/** A folder in `models/` by its name, or a path relative to `base`. Undefined when there is neither. */
export function findModel(nameOrPath: string, base: string): string | undefined {
  const builtIn = join(BUILT_IN_MODELS, nameOrPath);
  if (!nameOrPath.includes('/') && statSync(builtIn, { throwIfNoEntry: false })?.isDirectory() === true) return builtIn;
  const path = resolve(base, nameOrPath);
  return existsSync(path) ? path : undefined;
}
