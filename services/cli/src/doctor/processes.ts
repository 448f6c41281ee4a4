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

/** What keeps each from serving, and whether their versions agree. One that can't be reached is left out: its address is a finding of its own. */
export async function checkProcesses(processes: readonly ObservedProcess[]): Promise<Finding[]> {
  const seen = await Promise.all(processes.map(look));
  const reached = seen.filter((process) => process !== undefined);
  return [...reached.map(({ readiness }) => readiness), ...(reached.length === 0 ? [] : [versions(reached)])];
}

interface Seen {
  id: string;
  readiness: Finding;
  version: string;
}

async function look({ id, observability }: ObservedProcess): Promise<Seen | undefined> {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const [reasons, metrics] = await Promise.all([
      probeReadyz(observability, signal),
      fetch(`http://${observability}/metrics`, { signal }).then((response) => response.text()),
    ]);
    const what = `${id}, ready`;
    const readiness = reasons.length === 0 ? ok(what, 'yes') : notReady(what, reasons);
    return { id, readiness, version: VERSION_SAMPLE.exec(metrics)?.[1] ?? 'unknown' };
  } catch {
    return undefined;
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

function versions(processes: readonly Seen[]): Finding {
  const by = Map.groupBy(processes, ({ version }) => version);
  const found = [...by].map(([version, of]) => `${version} (${of.map(({ id }) => id).join(', ')})`).join('; ');
  if (by.size > 1) return warning('versions', found, 'finish the upgrade: run all processes from the same version');
  const [version = ''] = by.keys();
  return version === VERSION
    ? ok('versions', `all processes are ${version}, as this command`)
    : warning('versions', `${found}; this command is ${VERSION}`, `run ./causeway doctor of version ${version}`);
}
