import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { awaitDependency } from '@causeway/lifecycle';
import { knownWorkers } from './probes.ts';
import type { ServiceState } from './run-state.ts';
import type { ServicePlan } from './service-plan.ts';
import { type ServiceEvent, Supervised } from './supervised.ts';

type Kind = ServiceState['kind'];

/** Servers first; the services wait for nothing else. */
const START_STAGES: readonly (readonly Kind[])[] = [
  ['nats', 'redis'],
  ['router', 'prefill', 'decode', 'expert'],
];
/** What asks others is stopped before them, so that nothing in flight loses its other half. */
const STOP_STAGES: readonly (readonly Kind[])[] = [['router'], ['prefill'], ['decode'], ['expert'], ['nats', 'redis']];

export interface ClusterHooks {
  onEvent: (service: ServicePlan, event: ServiceEvent) => void;
  /** Called whenever a service's state changed. */
  onChange: () => void;
}

/** Every process of one `up`: started in stages, kept running, drained in order. */
export class Cluster {
  readonly services: readonly Supervised[];

  constructor(plans: readonly ServicePlan[], hooks: ClusterHooks) {
    this.services = plans.map(
      (plan) => new Supervised(plan, { onEvent: (event) => hooks.onEvent(plan, event), onChange: hooks.onChange }),
    );
  }

  /** Starts everything; throws the first failure. The caller then stops what runs. */
  async start(deadlineMs: number, signal: AbortSignal): Promise<void> {
    for (const service of this.services) {
      mkdirSync(dirname(service.plan.log), { recursive: true });
      writeFileSync(service.plan.log, '');
    }
    const abort = new AbortController();
    const either = AbortSignal.any([signal, abort.signal]);
    for (const kinds of START_STAGES) {
      try {
        await Promise.all(this.#of(kinds).map((service) => service.start(deadlineMs, either)));
      } catch (error) {
        abort.abort(error); // the others need not go on waiting
        throw error;
      }
    }
  }

  /** Waits until every router has seen every worker: a worker that is ready is in its next look at the registry. */
  async workersKnown(deadlineMs: number, signal: AbortSignal): Promise<void> {
    const wanted = (['prefill', 'decode'] as const).map((role) => [role, this.#of([role]).length] as const);
    for (const { plan } of this.#of(['router'])) {
      await awaitDependency({
        what: `${plan.name}, which must see every worker,`,
        deadlineMs,
        signal,
        attempt: async (attempt) => {
          const known = await knownWorkers(plan.observability ?? '', attempt);
          const short = wanted.filter(([role, count]) => (known.get(role) ?? 0) < count);
          if (short.length > 0)
            throw new Error(`it sees ${short.map(([role, n]) => `${known.get(role) ?? 0} of ${n} ${role}`).join(', ')}`);
        },
      });
    }
  }

  /** Drains: SIGTERM by stage, each stage waited for. */
  async stop(): Promise<void> {
    for (const kinds of STOP_STAGES) await Promise.all(this.#of(kinds).map((service) => service.stop()));
  }

  /** How long `stop` takes at most. */
  get stopWithinMs(): number {
    return STOP_STAGES.reduce((sum, kinds) => sum + Math.max(0, ...this.#of(kinds).map((service) => service.plan.graceMs)), 0);
  }

  /** SIGKILL to everything at once. */
  kill(): void {
    for (const service of this.services) service.kill();
  }

  #of(kinds: readonly Kind[]): Supervised[] {
    return this.services.filter((service) => kinds.includes(service.plan.kind));
  }
}
