import { readFileSync } from 'node:fs';

/**
 * A process that cannot be mistaken for another: its id, and when it started (boot id and clock ticks since boot, from /proc).
 * Ids are used again; a signal goes only to a process whose start matches.
 */
export interface ProcessIdentity {
  pid: number;
  start: string;
}

/** The identity of a live process; undefined when there is none (a zombie is none). */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // proc(5): the command in field 2 may hold spaces and brackets; field 3 (state) begins after the last one. Field 22 is starttime.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, ticks] = [fields[0], fields[19]];
  if (state === undefined || ticks === undefined || state === 'Z' || state === 'X') return undefined;
  return { pid, start: `${bootId()}:${ticks}` };
}

/** Whether exactly this process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.start === identity.start;
}

/**
 * Signals a process, or with `group` the process group it leads, if it is still the same one. False when it is gone.
 */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals, group = false): boolean {
  if (!isAlive(identity)) return false;
  try {
    return process.kill(group ? -identity.pid : identity.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

let boot: string | undefined;

function bootId(): string {
  boot ??= readProc('/proc/sys/kernel/random/boot_id')?.trim() ?? 'unknown';
  return boot;
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
