import { availableParallelism } from 'node:os';
import { ServiceError } from '@causeway/errors';
import { Cluster } from '../cluster/cluster.ts';
import { acquireInstanceLock } from '../cluster/instance-lock.ts';
import { stopLeftovers } from '../cluster/leftovers.ts';
import { chooseModels, type ChosenModels } from '../cluster/load-topology.ts';
import { type ClusterPlan, planCluster } from '../cluster/plan-cluster.ts';
import { identify } from '../cluster/process-identity.ts';
import { requireRoom } from '../cluster/run-folder.ts';
import { readRunState, removeRunState, type RunState, writeRunState } from '../cluster/run-state.ts';
import type { ServicePlan } from '../cluster/service-plan.ts';
import type { ServiceEvent } from '../cluster/supervised.ts';
import { chipsHere, vulkanHere } from '../cluster/vulkan.ts';
import { readCliConfig, routerKey } from '../config.ts';
import { modelPlaces } from '../models/model-places.ts';
import { pullHere } from '../models/pull-here.ts';
import type { RunPaths } from '../paths.ts';
import { shown } from '../prompt/shown.ts';
import { streamChat } from '../prompt/stream-chat.ts';
import { summarizeAnswer } from '../prompt/summary.ts';
import type { Output } from '../terminal/output.ts';
import { StopSignals, type SignalSource } from '../terminal/stop-signals.ts';
import { describeRunning, modelNames, usageLines } from '../terminal/up-text.ts';

export interface UpOptions {
  httpPort: number | undefined;
  grpcPort: number | undefined;
  host: string;
  /** In place of what the topology names; several: each worker pool once for each. */
  models: readonly string[];
  topology: string | undefined;
  /** Send the first prompt. */
  prompt: boolean;
  /** Seconds that everything may take to become ready. */
  wait: number;
}

export interface UpDeps {
  paths: RunPaths;
  out: Output;
  env: Readonly<Record<string, string | undefined>>;
  signals: SignalSource;
}

const FIRST_PROMPT = 'What is the capital of France?';
/** A router reads the registry every quarter of a second. */
const WORKERS_KNOWN_MS = 20_000;
const FIRST_PROMPT_TIMEOUT_MS = 120_000;

/**
 * Starts a cluster, proves it with one prompt, keeps it running until a signal asks for the end, and drains it.
 * Exit code: 0 drained, 1 could not start or is up already, 130 killed by a second signal.
 */
export async function up(options: UpOptions, deps: UpDeps): Promise<number> {
  const { paths, out } = deps;
  requireRoom(paths.folder);
  const chosen = await choose(options, deps);
  if (chosen === undefined) return 130;
  const { models } = chosen;
  await using lock = await acquireInstanceLock(paths);
  if (lock === undefined) {
    out.warn(describeRunning(readRunState(paths)));
    return 1;
  }
  const left = await stopLeftovers(paths);
  if (left.length > 0) out.line(`stopped what an earlier run had left behind: ${left.join(', ')}`);
  const { topology, env, notes } = await chipsHere(chosen.topology, deps.env, () => vulkanHere(out));
  const plan = await planCluster({ ...options, topology, models, paths, env: { ...deps.env, ...env } });
  await using _ports = plan.reserved;
  const served = [...new Map([...models.values()].map((model) => [model.name, { ...model }])).values()];

  out.line(`causeway up · ${modelNames(served)} · ${availableParallelism()} cores · logs in ${paths.logs}`);
  for (const note of [...chosen.notes, ...emulatedChips(topology), ...notes, ...plan.notes]) out.line(`  ${note}`);
  let phase: RunState['phase'] = 'starting';
  const startedAt = new Date().toISOString();
  let saved = true;
  /** A disk that fills up must not end a cluster, nor keep it from being ended. */
  const save = (): void => {
    try {
      writeRunState(paths, stateOf(plan, cluster, { phase, startedAt, models: served }));
      saved = true;
    } catch (error) {
      if (saved)
        out.warn(`cannot write ${paths.state}: ${(error as Error).message}; \`status\` and \`down\` see what was written last`);
      saved = false;
    }
  };
  const width = Math.max(10, ...plan.services.map(({ name }) => name.length));
  const show = (service: ServicePlan, event: ServiceEvent): void => showEvent(out, service, event, width);
  const cluster = new Cluster(plan.services, { onEvent: show, onChange: save });

  using stop = new StopSignals(deps.signals, (count, name) => {
    if (count === 1) {
      out.line(`${name}: draining (once more to stop at once) ...`);
      return;
    }
    cluster.kill();
  });
  let failure: ServiceError | undefined;
  try {
    await cluster.start(options.wait * 1000, stop.signal);
    await cluster.workersKnown(WORKERS_KNOWN_MS, stop.signal);
    if (options.prompt) {
      for (const { name } of served) await firstPrompt(plan, name, served.length === 1 ? 'model' : name, out, stop.signal);
    }
    phase = 'ready';
    save();
    for (const line of usageLines({ ...plan, wantsKey: keyFor(plan) !== undefined }, served[0]?.name ?? '', out)) out.line(line);
    await stop.requested;
  } catch (error) {
    if (!stop.signal.aborted) {
      failure = ServiceError.from(error);
      out.line();
      out.warn(`${out.red('error')}: ${failure.message}${failure.cause instanceof Error ? ` (${failure.cause.message})` : ''}`);
    }
  }
  phase = 'draining';
  save();
  await cluster.stop();
  removeRunState(paths);
  out.line('everything that was started has stopped');
  if (stop.count > 1) return 130;
  return failure === undefined ? 0 : 1;
}

/** Finds the models, pulling those that are not here; undefined when that was interrupted. */
async function choose(options: UpOptions, { out, env, signals }: UpDeps): Promise<ChosenModels | undefined> {
  const config = readCliConfig(env);
  using stop = new StopSignals(signals, () => undefined);
  try {
    return await chooseModels(options.models, options.topology, modelPlaces(config), (wanted) =>
      pullHere(wanted, { config, out, env }, stop.signal),
    );
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    out.line();
    out.line('stopped; what was pulled so far is kept');
    return undefined;
  }
}

function stateOf(
  plan: ClusterPlan,
  cluster: Cluster,
  rest: { phase: RunState['phase']; startedAt: string; models: RunState['models'] },
): RunState {
  const { httpUrl, grpcAddress, natsUrl, redisUrl, namespace } = plan;
  const supervisor = identify(process.pid);
  if (supervisor === undefined) throw new Error('/proc does not know this process: is /proc mounted?');
  const services = cluster.services.map((service) => service.state);
  const { stopWithinMs } = cluster;
  const named = namespace === undefined ? {} : { namespace };
  return { version: 1, supervisor, ...rest, httpUrl, grpcAddress, natsUrl, redisUrl, ...named, stopWithinMs, services };
}

function showEvent(out: Output, service: ServicePlan, event: ServiceEvent, width: number): void {
  const name = service.name.padEnd(width);
  switch (event.kind) {
    case 'waiting':
      out.line(`  ${name} waiting, ${event.seconds} s: ${event.reasons.join('; ')}`);
      return;
    case 'ready': {
      const ports = Object.entries(service.ports).map(([what, port]) => `${what} ${port}`);
      out.line(`  ${name} ready in ${seconds(event.ms)}  ${out.dim(`pid ${event.pid}  ${ports.join(' · ')}`)}`);
      return;
    }
    case 'died':
      out.line(
        `  ${out.red(`${name} died`)} (pid ${event.pid}, ${event.how}); starting it again in ${seconds(event.restartInMs)}`,
      );
      for (const line of event.tail) out.line(out.dim(`             | ${line}`));
      return;
    case 'stopped':
      out.line(`  ${name} stopped in ${seconds(event.ms)}${endedWell(service, event.how) ? '' : ` (${event.how})`}`);
      return;
  }
}

/** That chips of the topology are imitated, if some are. */
function emulatedChips({ pools }: ChosenModels['topology']): string[] {
  const chips = [...new Set(pools.flatMap((pool) => ('emulated' in pool && pool.emulated === true ? [pool.chip] : [])))];
  return chips.length === 0
    ? []
    : [`${chips.join(' and ')} emulated: computed on this machine's CPU, KV in the chips' own bytes`];
}

/** The key that the router of this plan wants. */
function keyFor(plan: ClusterPlan): string | undefined {
  return routerKey(readCliConfig(plan.services.find(({ kind }) => kind === 'router')?.env ?? {}));
}

async function firstPrompt(plan: ClusterPlan, model: string, label: string, out: Output, signal: AbortSignal): Promise<void> {
  out.line();
  out.line(`${out.dim('you'.padEnd(label.length))} ${FIRST_PROMPT}`);
  out.write(`${out.dim(label)} `);
  const answer = await streamChat({
    baseUrl: plan.httpUrl,
    apiKey: keyFor(plan),
    model,
    messages: [{ role: 'user', content: FIRST_PROMPT }],
    maxTokens: 128,
    temperature: 0,
    placement: 'disaggregated',
    signal: AbortSignal.any([signal, AbortSignal.timeout(FIRST_PROMPT_TIMEOUT_MS)]),
    ...shown(out),
  });
  out.line();
  out.line();
  out.line(out.bold(summarizeAnswer(answer)));
  out.line();
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** nats-server ends with exit code 1 after SIGTERM (server/signal.go). */
function endedWell(service: ServicePlan, how: string): boolean {
  return how === 'exit code 0' || (service.kind === 'nats' && how === 'exit code 1');
}
