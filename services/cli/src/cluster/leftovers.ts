import { sleep } from '@causeway/lifecycle';
import { removeRunState, readRunState, type ServiceState } from './run-state.ts';
import { isAlive, type ProcessIdentity, signalProcess } from './process-identity.ts';
import type { RunPaths } from '../paths.ts';

/** Time that processes without a supervisor get to end by themselves. */
const GRACE_MS = 10_000;

/**
 * Ends what an `up` that was killed left behind, and removes its state file. Only processes whose id and start time both match
 * the state file are touched. The caller holds the instance lock, or knows that the supervisor is gone.
 * @returns names of the services that were still running
 */
export async function stopLeftovers(paths: RunPaths): Promise<string[]> {
  const state = readRunState(paths);
  const alive = (state?.services ?? []).flatMap((service) => {
    const identity = service.process;
    return identity !== undefined && isAlive(identity) ? [{ service, identity }] : [];
  });
  const servers = (entry: { service: ServiceState }): boolean => entry.service.kind === 'nats' || entry.service.kind === 'redis';
  await endAll(alive.filter((entry) => !servers(entry)).map((entry) => entry.identity));
  await endAll(alive.filter(servers).map((entry) => entry.identity));
  removeRunState(paths);
  return alive.map((entry) => entry.service.name);
}

async function endAll(identities: readonly ProcessIdentity[]): Promise<void> {
  for (const identity of identities) {
    signalProcess(identity, 'SIGCONT');
    signalProcess(identity, 'SIGTERM');
  }
  const end = performance.now() + GRACE_MS;
  while (identities.some(isAlive)) {
    if (performance.now() > end) for (const identity of identities) signalProcess(identity, 'SIGKILL', true);
    await sleep(50);
  }
}
