/** Checks of a deployment's workers: all roles there, of one checkpoint, reachable under what they registered. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { WorkerRecord } from '@causeway/registry';
import { type Finding, ok, problem, warning } from './finding.ts';

const TIMEOUT_MS = 3000;

export async function checkWorkers(workers: readonly WorkerRecord[]): Promise<Finding[]> {
  if (workers.length === 0) {
    return [problem('workers', 'none is registered', 'start them; their logs say why when they end; is the namespace theirs?')];
  }
  return [...roles(workers), ...models(workers), ...(await Promise.all(workers.map(checkAddresses))).flat()];
}

function roles(workers: readonly WorkerRecord[]): Finding[] {
  return (['prefill', 'decode'] as const).map((role) => {
    const of = workers.filter((worker) => worker.role === role && !worker.draining);
    if (of.length > 0)
      return ok(
        `${role} workers`,
        of.map(({ id, chip, emulated }) => `${id} (${chip}${emulated ? ', emulated' : ''})`).join(', '),
      );
    return role === 'decode'
      ? problem('decode workers', 'none', 'start one: nothing else writes answers')
      : warning('prefill workers', 'none', 'start one: decode workers read prompts themselves until then');
  });
}

/** Each model by itself: workers of different models have nothing to agree on. */
function models(workers: readonly WorkerRecord[]): Finding[] {
  const names = [...new Set(workers.map(({ model }) => model))];
  return names.flatMap((name) =>
    agreement(
      name,
      workers.filter(({ model }) => model === name),
    ),
  );
}

/** Two workers whose fingerprints differ never exchange KV. */
function agreement(model: string, workers: readonly WorkerRecord[]): Finding[] {
  const [first, ...others] = workers;
  if (first === undefined) return [];
  const differ = others.flatMap((worker) =>
    Object.entries(worker.fingerprint)
      .filter(
        ([field, value]) =>
          JSON.stringify(value) !== JSON.stringify((first.fingerprint as unknown as Record<string, unknown>)[field]),
      )
      .map(([field]) => `${worker.id} and ${first.id} differ in ${field}`),
  );
  return [
    differ.length === 0
      ? ok(`fingerprints of ${model}`, 'all workers have the same checkpoint')
      : problem(`fingerprints of ${model}`, differ.join('; '), 'give all workers the same checkpoint: these refuse each other'),
  ];
}

/** Whether a process is reached under what it registered. */
export async function checkAddresses(worker: Pick<WorkerRecord, 'id' | 'address' | 'observability'>): Promise<Finding[]> {
  const check = async (plane: string, address: string): Promise<Finding> => {
    const what = `${worker.id}, ${plane} at ${address}`;
    try {
      await reach(address);
      return ok(what, 'reached');
    } catch (error) {
      const why = (error as Error).name === 'AbortError' ? `no answer within ${TIMEOUT_MS / 1000} s` : (error as Error).message;
      return problem(
        what,
        why,
        'set CAUSEWAY_ADVERTISE_HOST of that worker to an address that is reached from here, or open the port',
      );
    }
  };
  return Promise.all([check('gRPC', worker.address), check('/metrics', worker.observability)]);
}

async function reach(address: string): Promise<void> {
  const colon = address.lastIndexOf(':');
  const socket = connect({ host: address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(address.slice(colon + 1)) });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(TIMEOUT_MS) });
  } finally {
    socket.destroy();
  }
}
