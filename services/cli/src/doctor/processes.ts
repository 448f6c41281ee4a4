/** Checks of processes by what each says of itself: ready, connected to NATS, and of one version. */
import { METRICS, VERSION } from '@causeway/telemetry';
import { probeReadyz } from '../cluster/probes.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

const TIMEOUT_MS = 3000;

/** Of a router, worker or shard. */
export interface ObservedProcess {
  readonly id: string;
  /** `host:port` of /readyz and /metrics. */
  readonly observability: string;
}

const VERSION_SAMPLE = new RegExp(`^${METRICS.buildInfo.name}\\{[^}]*version="([^"]*)"`, 'm');

/**
 * What keeps each from serving, and whether their versions agree. One whose port is closed is left out: its address is a finding of its own.
 * One that takes connections and doesn't answer hangs.
 */
export async function checkProcesses(processes: readonly ObservedProcess[]): Promise<Finding[]> {
  const seen = (await Promise.all(processes.map(look))).filter((process) => process !== undefined);
  const answered = seen.flatMap(({ id, version }) => (version === undefined ? [] : [{ id, version }]));
  return [...seen.map(({ readiness }) => readiness), ...(answered.length === 0 ? [] : [versions(answered)])];
}

interface Seen {
  id: string;
  readiness: Finding;
  /** Undefined: it did not answer. */
  version: string | undefined;
}

async function look({ id, observability }: ObservedProcess): Promise<Seen | undefined> {
  const what = `${id}, ready`;
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const [reasons, metrics] = await Promise.all([
      probeReadyz(observability, signal),
      fetch(`http://${observability}/metrics`, { signal }).then((response) => response.text()),
    ]);
    const readiness = reasons.length === 0 ? ok(what, 'yes') : notReady(what, reasons);
    return { id, readiness, version: VERSION_SAMPLE.exec(metrics)?.[1] ?? 'unknown' };
  } catch {
    if (!signal.aborted) return undefined;
    const found = `no answer from ${observability} within ${TIMEOUT_MS / 1000} s`;
    return {
      id,
      readiness: problem(what, found, 'it hangs, or its machine has no core left: look at its log, start it again'),
      version: undefined,
    };
  }
}

/** By the plane that is missing. */
function notReady(what: string, reasons: readonly string[]): Finding {
  const found = reasons.join('; ');
  if (/NATS/.test(found))
    return problem(
      what,
      found,
      'no KV reaches it: look at CAUSEWAY_NATS_URL, its user and password, and the network of NATS from there',
    );
  if (/draining/.test(found)) return warning(what, found, 'it ends when its work is done');
  return problem(what, found, 'its log says more');
}

function versions(processes: readonly { id: string; version: string }[]): Finding {
  const by = Map.groupBy(processes, ({ version }) => version);
  const found = [...by].map(([version, of]) => `${version} (${of.map(({ id }) => id).join(', ')})`).join('; ');
  if (by.size > 1) return warning('versions', found, 'finish the upgrade: run all processes from the same version');
  const [version = ''] = by.keys();
  return version === VERSION
    ? ok('versions', `all processes are ${version}, as this command`)
    : warning('versions', `${found}; this command is ${VERSION}`, `run ./causeway doctor of version ${version}`);
}
