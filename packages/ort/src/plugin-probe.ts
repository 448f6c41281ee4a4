/**
 * Tries a plug-in provider's library in a process of its own: one that crashes when it is loaded would take a worker with it, and nobody
 * would say why.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missingProvider } from './provider.ts';

const LOADER = fileURLToPath(new URL('./plugin-loader.ts', import.meta.url));
/** Drivers of devices may take long to start; one that takes longer than this hangs. */
const LONGEST_MS = 60_000;

const tried = new Map<string, Promise<void>>();

/**
 * Resolves when the library can be loaded, or is refused without harm: whoever loads it then says why. Each is tried once.
 * @throws ServiceError `provider_missing` when it crashes or hangs
 */
export function probePlugin(library: string, available: readonly string[]): Promise<void> {
  const path = resolve(library);
  const trial = tried.get(path) ?? tryToLoad(path, available);
  tried.set(path, trial);
  return trial;
}

async function tryToLoad(path: string, available: readonly string[]): Promise<void> {
  if (!existsSync(path)) return;
  const child = spawn(process.execPath, [LOADER, path], { stdio: 'ignore', timeout: LONGEST_MS, killSignal: 'SIGKILL' });
  const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  if (signal === 'SIGKILL')
    missingProvider(`loading the provider library ${path} took more than ${LONGEST_MS / 1000} s`, available);
  if (signal !== null) missingProvider(`the provider library ${path} crashes when it is loaded (${signal})`, available);
}
