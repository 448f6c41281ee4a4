import { checkWorkers } from '../doctor/deployment.ts';
import type { Finding } from '../doctor/finding.ts';
import { checkMachine } from '../doctor/machine.ts';
import { checkNatsMonitoring } from '../doctor/nats-monitoring.ts';
import { checkProcesses, type ObservedProcess } from '../doctor/processes.ts';
import { checkNats, checkRedis } from '../doctor/servers.ts';
import { readRunState, type RunState } from '../cluster/run-state.ts';
import type { RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';

export interface DoctorOptions {
  /** Default: those of the cluster that is up in this checkout; without one only the machine is checked. */
  natsUrl: string | undefined;
  redisUrl: string | undefined;
  natsMonitoringUrl: string | undefined;
  namespace: string | undefined;
  json: boolean;
}

/** Checks this machine, and a deployment's NATS, Redis and workers as they are seen from here. Exit code 1 when something is a problem. */
export async function doctor(
  options: DoctorOptions,
  deps: { paths: RunPaths; out: Output; env: Readonly<Record<string, string | undefined>> },
): Promise<number> {
  const state = readRunState(deps.paths);
  const natsUrl = options.natsUrl ?? deps.env['CAUSEWAY_NATS_URL'] ?? state?.natsUrl;
  const redisUrl = options.redisUrl ?? deps.env['CAUSEWAY_REDIS_URL'] ?? state?.redisUrl;
  const here = state !== undefined && natsUrl === state.natsUrl && redisUrl === state.redisUrl ? state : undefined;
  const monitoringUrl = options.natsMonitoringUrl ?? deps.env['CAUSEWAY_NATS_MONITORING_URL'] ?? monitoringOf(here);
  const findings = await checkMachine(deps.paths.folder, deps.env['PATH']);
  if (natsUrl !== undefined) findings.push(...(await checkNats(natsUrl)));
  let workers: number | undefined;
  if (redisUrl !== undefined) {
    const redis = await checkRedis(redisUrl, options.namespace ?? deps.env['CAUSEWAY_NAMESPACE'] ?? state?.namespace);
    findings.push(...redis.findings);
    if (redis.workers !== undefined) {
      const processes = [...routersOf(here), ...redis.workers, ...redis.shards];
      findings.push(...(await checkWorkers(redis.workers)), ...(await checkProcesses(processes)));
      workers = redis.workers.length;
    }
  }
  if (monitoringUrl !== undefined) findings.push(...(await checkNatsMonitoring(monitoringUrl, workers)));
  if (options.json) deps.out.line(JSON.stringify(findings, undefined, 2));
  else show(findings, natsUrl !== undefined || redisUrl !== undefined, deps.out);
  return findings.some(({ level }) => level === 'problem') ? 1 : 0;
}

/** Routers are in no registry: those of the cluster of this checkout. */
function routersOf(state: RunState | undefined): ObservedProcess[] {
  return (state?.services ?? []).flatMap(({ kind, name, observability }) =>
    kind === 'router' && observability !== undefined ? [{ id: name, observability }] : [],
  );
}

function monitoringOf(state: RunState | undefined): string | undefined {
  const port = state?.services.find(({ kind }) => kind === 'nats')?.ports['monitoring'];
  return port === undefined ? undefined : `http://127.0.0.1:${port}`;
}

function show(findings: readonly Finding[], deployment: boolean, out: Output): void {
  for (const { level, what, found, todo } of findings) {
    const mark = level === 'ok' ? 'ok      ' : level === 'warning' ? out.bold('warning ') : out.red('problem ');
    out.line(`${mark} ${what}: ${found}`);
    if (todo !== undefined) out.line(`         → ${todo}`);
  }
  if (!deployment) out.line('no cluster is up here and none was named (--nats-url, --redis-url): only the machine was checked');
  const problems = findings.filter(({ level }) => level === 'problem').length;
  const warnings = findings.filter(({ level }) => level === 'warning').length;
  out.line(`${findings.length} checks, ${problems} problems, ${warnings} warnings`);
}
