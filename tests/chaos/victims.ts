/** Whom a cell's signal hits, and how it comes back. */
import { readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { eventually, type ServiceProcess } from '@causeway/testkit';
import type { Cell } from './cells.ts';
import type { Lane } from './lane.ts';

/** How long STOP lasts. */
const STOPPED_MS = 15_000;

interface Target {
  readonly pid: number;
  signal(name: 'KILL' | 'STOP' | 'CONT'): Promise<void>;
  /** Starts it again after a kill, as an orchestrator would. */
  restart(): Promise<void>;
}

/** The process that a cell hits: of the workers the one that serves the request, or would take it over. */
async function targetOf(lane: Lane, cell: Cell, requestId: string): Promise<Target> {
  const { nats, redis } = lane.cluster;
  switch (cell.victim) {
    case 'router':
      return service(lane.router.process, async () => {
        await lane.cluster.startRouter({ CAUSEWAY_RECOVERY: cell.recovery });
      });
    case 'prefill': {
      const { prefill } = await lane.attempt(requestId);
      return service(lane.worker(prefill).process, () => lane.restartWorker(prefill));
    }
    case 'decode': {
      const { decode } = await lane.attempt(requestId);
      // At `migrating` the worker that served is dead already.
      const id = cell.phase === 'migrating' ? otherDecode(decode) : decode;
      return service(lane.worker(id).process, () => lane.restartWorker(id));
    }
    case 'nats':
      return { pid: nats.server.pid, signal: (name) => nats.signal(name), restart: () => startAgain(nats) };
    case 'redis':
      return { pid: redis.server.pid, signal: (name) => redis.signal(name), restart: () => startAgain(redis) };
  }
}

function otherDecode(id: string): string {
  return id === 'decode-1' ? 'decode-2' : 'decode-1';
}

function service(process: ServiceProcess, restart: () => Promise<void>): Target {
  return {
    pid: process.pid,
    signal: async (name) => {
      if (!process.signal(name)) throw new Error(`process ${process.pid} has ended before ${name}`);
      if (name === 'KILL') await process.exited;
    },
    restart,
  };
}

/** Another process may have taken the port for a moment. */
async function startAgain(server: { start(): Promise<void> }): Promise<void> {
  await eventually(async () => {
    await server.start();
    return true;
  });
}

/**
 * Delivers the cell's signal and proves it: a killed process has gone, a stopped one is stopped. `back` resolves when the victim
 * runs again.
 * @throws Error when the signal had no effect: the cell was not exercised
 */
export async function strike(lane: Lane, cell: Cell, requestId: string): Promise<{ back: Promise<void> }> {
  const target = await targetOf(lane, cell, requestId);
  await target.signal(cell.signal);
  if (cell.signal === 'KILL') {
    const state = await processState(target.pid);
    if (state !== undefined) throw new Error(`${cell.victim} was killed and is ${state}`);
    return { back: target.restart() };
  }
  await eventually(async () => (await processState(target.pid)) === 'T', { what: `${cell.victim} stopped` });
  const resume = async (): Promise<void> => {
    await wait(STOPPED_MS);
    const state = await processState(target.pid);
    if (state !== 'T') throw new Error(`${cell.victim} did not stay stopped: ${state ?? 'it is gone'}`);
    await target.signal('CONT');
  };
  return { back: resume() };
}

/** State letter of /proc/PID/stat (proc(5)); undefined when the process is gone. */
async function processState(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
  } catch {
    return undefined;
  }
}
