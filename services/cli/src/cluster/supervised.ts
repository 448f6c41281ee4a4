/**
 * One process of the cluster under supervision.
 * S1: it leads a process group of its own, so that a terminal's Ctrl-C does not reach it and a kill takes its children too.
 * S2: until it was ready once, its end is the caller's failure; afterwards it is reported and restarted with backoff.
 * S3: after `stop` or `kill` nothing is started again.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { ServiceError } from '@causeway/errors';
import { abortable, backoff, sleep } from '@causeway/lifecycle';
import { lastWords } from '../terminal/last-lines.ts';
import { identify, type ProcessIdentity, signalProcess } from './process-identity.ts';
import type { ServiceState } from './run-state.ts';
import type { ServicePlan } from './service-plan.ts';

export type ServiceEvent =
  | { kind: 'waiting'; seconds: number; reasons: readonly string[] }
  | { kind: 'ready'; ms: number; pid: number }
  | { kind: 'died'; how: string; pid: number; restartInMs: number; tail: readonly string[] }
  | { kind: 'stopped'; how: string; ms: number };

const PROBE_EVERY_MS = 50;
const PROBE_TIMEOUT_MS = 2_000;
const SAY_WAITING_EVERY_MS = 5_000;
/** A process that ran this long starts over with the shortest delay. */
const HEALTHY_MS = 30_000;

interface Running {
  child: ChildProcess;
  identity: ProcessIdentity;
  startedAt: number;
  /** How it ended: `exit code 1`, `signal SIGKILL`. */
  exited: Promise<string>;
  ended: boolean;
}

export class Supervised {
  readonly plan: ServicePlan;
  readonly #onEvent: (event: ServiceEvent) => void;
  readonly #onChange: () => void;
  readonly #stopping = new AbortController();
  #running: Running | undefined;
  #phase: ServiceState['phase'] = 'starting';
  #restarts = 0;
  #supervision: Promise<void> | undefined;

  constructor(plan: ServicePlan, hooks: { onEvent: (event: ServiceEvent) => void; onChange: () => void }) {
    this.plan = plan;
    this.#onEvent = hooks.onEvent;
    this.#onChange = hooks.onChange;
  }

  get state(): ServiceState {
    const { plan } = this;
    return {
      name: plan.name,
      kind: plan.kind,
      ...(plan.model === undefined ? {} : { model: plan.model }),
      ...(this.#running === undefined || this.#running.ended ? {} : { process: this.#running.identity }),
      phase: this.#phase,
      restarts: this.#restarts,
      log: plan.log,
      ...(plan.observability === undefined ? {} : { observability: plan.observability }),
      ports: { ...plan.ports },
    };
  }

  /** Starts it and waits until it is ready. Throws with its last log lines when it ends first, or is not ready by the deadline. */
  async start(deadlineMs: number, signal: AbortSignal): Promise<void> {
    const running = await this.#spawn();
    await this.#untilReady(running, deadlineMs, signal);
    this.#supervision = this.#supervise(running);
  }

  /** SIGTERM; SIGKILL to its group when the grace is over. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const running = this.#running;
    if (running !== undefined && !running.ended) {
      this.#setPhase('stopping');
      const began = performance.now();
      // A suspended process cannot act on SIGTERM.
      signalProcess(running.identity, 'SIGCONT');
      signalProcess(running.identity, 'SIGTERM');
      const insist = setTimeout(() => signalProcess(running.identity, 'SIGKILL', true), this.plan.graceMs);
      const how = await running.exited;
      clearTimeout(insist);
      this.#onEvent({ kind: 'stopped', how, ms: performance.now() - began });
    }
    await this.#supervision;
    this.#setPhase('stopped');
  }

  /** SIGKILL to its group, at once. */
  kill(): void {
    this.#stopping.abort();
    if (this.#running !== undefined && !this.#running.ended) signalProcess(this.#running.identity, 'SIGKILL', true);
  }

  async #spawn(): Promise<Running> {
    const { plan } = this;
    const output = openSync(plan.log, 'a');
    let child: ChildProcess;
    try {
      child = spawn(plan.command, plan.args, { detached: true, stdio: ['ignore', output, output], env: plan.env }); // S1
    } finally {
      closeSync(output);
    }
    const exited = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`));
    });
    const identity = child.pid === undefined ? undefined : identify(child.pid);
    if (identity === undefined) throw this.#failure(`did not start: ${await exited}`);
    const running: Running = { child, identity, startedAt: performance.now(), exited, ended: false };
    void exited.then(() => {
      running.ended = true;
      this.#onChange();
    });
    this.#running = running;
    this.#setPhase('starting');
    return running;
  }

  async #untilReady(running: Running, deadlineMs: number, signal: AbortSignal): Promise<void> {
    const began = performance.now();
    let said = began;
    let reasons: readonly string[] = [];
    while (!running.ended) {
      try {
        reasons = await abortable(this.plan.probe(AbortSignal.any([signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)])), signal);
        if (reasons.length === 0) {
          this.#setPhase('ready');
          this.#onEvent({ kind: 'ready', ms: performance.now() - began, pid: running.identity.pid });
          return;
        }
      } catch (error) {
        signal.throwIfAborted();
        reasons = [notAnswering(error)];
      }
      const now = performance.now();
      if (now - began > deadlineMs) throw this.#failure(`was not ready within ${deadlineMs / 1000} s: ${reasons.join('; ')}`);
      if (now - said > SAY_WAITING_EVERY_MS) {
        said = now;
        this.#onEvent({ kind: 'waiting', seconds: Math.round((now - began) / 1000), reasons });
      }
      await Promise.race([sleep(PROBE_EVERY_MS, signal), running.exited]);
    }
    throw this.#failure(`ended before it was ready: ${await running.exited}`);
  }

  /** S2: restarts it for as long as it is wanted. */
  async #supervise(first: Running): Promise<void> {
    const { signal } = this.#stopping;
    let delays = restartDelays();
    let running: Running | undefined = first;
    while (!signal.aborted) {
      const how = running === undefined ? 'could not be started' : await running.exited;
      if (signal.aborted) return; // S3
      if (running !== undefined && performance.now() - running.startedAt > HEALTHY_MS) delays = restartDelays();
      const restartInMs = delays.next().value;
      this.#setPhase('restarting');
      this.#onEvent({ kind: 'died', how, pid: running?.identity.pid ?? 0, restartInMs, tail: lastWords(this.plan.log, 6) });
      try {
        await sleep(restartInMs, signal);
        this.#restarts += 1;
        running = await this.#spawn();
        await this.#untilReady(running, Number.POSITIVE_INFINITY, signal);
      } catch {
        // Ended before it was ready, or stopping: the next turn says how it ended, or leaves.
      }
    }
  }

  #setPhase(phase: ServiceState['phase']): void {
    this.#phase = phase;
    this.#onChange();
  }

  #failure(what: string): ServiceError {
    const tail = lastWords(this.plan.log, 12);
    const log =
      tail.length === 0
        ? `its log is empty: ${this.plan.log}`
        : `the end of ${this.plan.log}:\n${tail.map((line) => `  | ${line}`).join('\n')}`;
    return new ServiceError(`${this.plan.name} ${what}\n${log}`, { code: 'unavailable', reason: 'dependency_unavailable' });
  }
}

function restartDelays(): Generator<number, never, void> {
  return backoff({ minMs: 500, maxMs: 15_000 });
}

function notAnswering(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (cause instanceof Error && (cause as NodeJS.ErrnoException).code === 'ECONNREFUSED') return 'its port is not open yet';
  return `it does not answer yet (${cause instanceof Error ? cause.message : String(cause)})`;
}
