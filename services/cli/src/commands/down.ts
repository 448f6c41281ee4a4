import { sleep } from '@causeway/lifecycle';
import { stopLeftovers } from '../cluster/leftovers.ts';
import { isAlive, signalProcess } from '../cluster/process-identity.ts';
import { readRunState, type RunState } from '../cluster/run-state.ts';
import type { RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';

/** Beyond the time that the supervisor itself gives its processes. */
const MARGIN_MS = 3_000;
/** When its state does not say how long its drain takes. */
const UNKNOWN_DRAIN_MS = 120_000;

/**
 * Drains and stops the cluster of this checkout, wherever it was started. A supervisor that has not ended when all its drains are over
 * is killed, and its processes are stopped from here. Exit code 0, also when none runs.
 * @param now kill instead of draining
 */
export async function down(options: { now: boolean }, deps: { paths: RunPaths; out: Output }): Promise<number> {
  const { paths, out } = deps;
  const state = readRunState(paths);
  if (state === undefined) {
    out.line('no cluster of this checkout is up');
    return 0;
  }
  const { supervisor } = state;
  if (!isAlive(supervisor)) {
    const left = await stopLeftovers(paths);
    out.line(
      `its supervisor (pid ${supervisor.pid}) had ended abruptly; ${left.length === 0 ? 'nothing else ran' : `stopped ${left.join(', ')}`}`,
    );
    return 0;
  }
  out.line(`stopping the cluster (pid ${supervisor.pid}) ...`);
  ask(state, options.now);
  const patience = (options.now ? 0 : (state.stopWithinMs ?? UNKNOWN_DRAIN_MS)) + MARGIN_MS;
  if (await ended(state, paths, patience, out)) {
    out.line('stopped');
    return 0;
  }
  signalProcess(supervisor, 'SIGKILL');
  while (isAlive(supervisor)) await sleep(50);
  const left = await stopLeftovers(paths);
  out.line(`it did not end within ${patience / 1000} s: killed it${left.length === 0 ? '' : ` and stopped ${left.join(', ')}`}`);
  return 0;
}

/** The first signal drains, the second kills. */
function ask({ supervisor, phase }: RunState, now: boolean): void {
  if (phase !== 'draining') signalProcess(supervisor, 'SIGTERM');
  if (now) signalProcess(supervisor, 'SIGINT');
  // A suspended process acts on nothing else.
  signalProcess(supervisor, 'SIGCONT');
}

/** Waits, and says what still runs. False when the time is over. */
async function ended({ supervisor }: RunState, paths: RunPaths, ms: number, out: Output): Promise<boolean> {
  const end = performance.now() + ms;
  let remaining = '';
  while (isAlive(supervisor)) {
    if (performance.now() > end) return false;
    const names = (readRunState(paths)?.services ?? [])
      .filter((service) => service.process !== undefined)
      .map((service) => service.name);
    if (names.join(', ') !== remaining && names.length > 0) {
      remaining = names.join(', ');
      out.line(`  running: ${remaining}`);
    }
    await sleep(100);
  }
  return true;
}
