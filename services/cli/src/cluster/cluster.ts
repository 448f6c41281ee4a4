import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ServiceState } from './run-state.ts';
import type { ServicePlan } from './service-plan.ts';
import { type ServiceEvent, Supervised } from './supervised.ts';

type Kind = ServiceState['kind'];

/** Servers first; the services wait for nothing else. */
const START_STAGES: readonly (readonly Kind[])[] = [
  ['nats', 'redis'],
  ['router', 'prefill', 'decode'],
];
/** What asks others is stopped before them, so that nothing in flight loses its other half. */
const STOP_STAGES: readonly (readonly Kind[])[] = [['router'], ['prefill'], ['decode'], ['nats', 'redis']];

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

  /** Drains: SIGTERM by stage, each stage waited for. */
  async stop(): Promise<void> {
    for (const kinds of STOP_STAGES) await Promise.all(this.#of(kinds).map((service) => service.stop()));
  }

  /** SIGKILL to everything at once. */
  kill(): void {
    for (const service of this.services) service.kill();
  }

  #of(kinds: readonly Kind[]): Supervised[] {
    return this.services.filter((service) => kinds.includes(service.plan.kind));
  }
}
