import { sleep } from '@causeway/lifecycle';
import { stopLeftovers } from '../cluster/leftovers.ts';
import { isAlive, signalProcess } from '../cluster/process-identity.ts';
import { readRunState } from '../cluster/run-state.ts';
import type { RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';

/**
 * Drains and stops the cluster of this checkout, wherever it was started. Exit code 0, also when none runs.
 * @param now kill instead of draining
 */
export async function down(options: { now: boolean }, deps: { paths: RunPaths; out: Output }): Promise<number> {
  const { paths, out } = deps;
  const state = readRunState(paths);
  if (state === undefined) {
    out.line('no cluster of this checkout is up');
    return 0;
  }
  if (!isAlive(state.supervisor)) {
    const left = await stopLeftovers(paths);
    out.line(
      `its supervisor (pid ${state.supervisor.pid}) had ended abruptly; ${left.length === 0 ? 'nothing else ran' : `stopped ${left.join(', ')}`}`,
    );
    return 0;
  }
  out.line(`stopping the cluster (pid ${state.supervisor.pid}) ...`);
  signalProcess(state.supervisor, 'SIGTERM');
  if (options.now && state.phase !== 'draining') signalProcess(state.supervisor, 'SIGINT');
  let remaining = '';
  while (isAlive(state.supervisor)) {
    const names = (readRunState(paths)?.services ?? [])
      .filter((service) => service.process !== undefined)
      .map((service) => service.name);
    if (names.join(', ') !== remaining && names.length > 0) {
      remaining = names.join(', ');
      out.line(`  running: ${remaining}`);
    }
    await sleep(100);
  }
  out.line('stopped');
  return 0;
}
