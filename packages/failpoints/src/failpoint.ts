import { writeFileSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fail, ServiceError } from '@causeway/errors';
import { type ArmedFailpoint, type FailpointName, parseFailpoints } from './spec.ts';

export interface FailpointOptions {
  /** Folder for `<name>.<pid>.hit` (written when an action begins) and `<name>.go` (ends a pause). Needed for `pause`. */
  dir?: string;
  /** Told just before an action; for the log. */
  onAct?: (point: ArmedFailpoint, detail: string | undefined) => void;
}

interface State extends FailpointOptions {
  points: ArmedFailpoint[];
  hits: number;
}

const GO_POLL_MS = 10;
const NOT_ARMED: Promise<void> = Promise.resolve();
const armed = new Map<FailpointName, State>();

/**
 * Arms failpoints for this process from a spec such as `after_frame_k:3=pause,mid_decode:5=kill`; replaces what was armed.
 * Throws ServiceError `bad_config` for a bad spec, or for `pause` without a folder.
 */
export function armFailpoints(spec: string, options: FailpointOptions = {}): void {
  const points = parseFailpoints(spec);
  if (options.dir === undefined && points.some((point) => point.action === 'pause')) {
    fail(
      'invalid_argument',
      'bad_config',
      'failpoint action pause needs CAUSEWAY_FAILPOINT_DIR, the folder in which it is released',
    );
  }
  armed.clear();
  for (const point of points) {
    const state = armed.get(point.name);
    if (state === undefined) armed.set(point.name, { ...options, points: [point], hits: 0 });
    else state.points.push(point);
  }
}

/** How often a failpoint was passed since it was armed; 0 when it is not armed. */
export function failpointHits(name: FailpointName): number {
  return armed.get(name)?.hits ?? 0;
}

/**
 * Marks a phase. Not armed: one map lookup and a settled promise.
 * Armed, at its hit: `kill` ends this process with SIGKILL, `pause` waits for `<dir>/<name>.go`, `error` rejects with ServiceError `internal`.
 */
export function failpoint(name: FailpointName, detail?: string): Promise<void> {
  const state = armed.get(name);
  if (state === undefined) return NOT_ARMED;
  state.hits++;
  const point = state.points.find((candidate) => candidate.hit === state.hits);
  return point === undefined ? NOT_ARMED : act(state, point, detail);
}

async function act(state: State, point: ArmedFailpoint, detail: string | undefined): Promise<void> {
  state.onAct?.(point, detail);
  if (state.dir !== undefined) {
    // Synchronous: after `kill` nothing else would reach the disk. Failpoints are armed only in tests.
    writeFileSync(
      join(state.dir, `${point.name}.${process.pid}.hit`),
      `${JSON.stringify({ ...point, detail: detail ?? null })}\n`,
    );
  }
  switch (point.action) {
    case 'kill':
      process.kill(process.pid, 'SIGKILL');
      return new Promise(() => undefined);
    case 'error':
      throw new ServiceError(`failpoint ${point.name} was armed to fail here`, {
        code: 'internal',
        reason: 'internal',
        retry: 'other',
      });
    case 'pause': {
      const go = join(state.dir ?? '', `${point.name}.go`);
      while (!(await exists(go))) await wait(GO_POLL_MS);
      return;
    }
    default:
      point.action satisfies never;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
