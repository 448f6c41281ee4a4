/**
 * Keeps a model's placement whole. Every shard runs one; a lock in Redis says whose turn it is, and every write is compare-and-set, so
 * that two that believe to have it can't undo each other's work. A change is proposed as `next`; shards load what it wants; when all
 * have, it is in force.
 */
import { randomUUID } from 'node:crypto';
import { ServiceError } from '@causeway/errors';
import { sleep, TaskGroup } from '@causeway/lifecycle';
import type { ExpertShape } from '@causeway/models';
import { expertLeaderKey, holdLock, type RedisConnection, type RegistryLogger } from '@causeway/registry';
import type { ExpertSnapshot, ExpertView } from './expert-view.ts';
import { readLoads } from './load-report.ts';
import { checkPlacement, type Placement } from './placement.ts';
import { planPlacement } from './plan.ts';
import type { ShardRecord } from './shard-record.ts';

export interface ControllerOptions {
  redis: RedisConnection;
  view: ExpertView;
  model: string;
  fingerprint: string;
  shape: ExpertShape;
  minCopies: number;
  hotCopies: number;
  /** The first placement waits for so many shards, for `firstWaitMs` at most. */
  expectedShards: number;
  firstWaitMs: number;
  log: RegistryLogger;
  onCrash: (error: unknown) => void;
}

const TICK_MS = 100;
const LEADER_MS = 3000;

/** After a placement was refused, before the next is proposed. */
const AFTER_REFUSAL_MS = 2000;

type Verdict = { kind: 'wait' } | { kind: 'turn' } | { kind: 'drop'; why: string };

export class PlacementController implements AsyncDisposable {
  readonly #o: ControllerOptions;
  readonly #tasks: TaskGroup;
  readonly #id = randomUUID();
  readonly #startedAt = performance.now();
  #lastProblem = '';
  #dropped = { epoch: 0, at: Number.NEGATIVE_INFINITY };

  constructor(o: ControllerOptions) {
    this.#o = o;
    this.#tasks = new TaskGroup({ onCrash: o.onCrash });
    void this.#tasks.spawn('expert placement controller', (signal) => this.#run(signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
  }

  async #run(signal: AbortSignal): Promise<void> {
    await this.#o.view.loaded;
    while (!signal.aborted) {
      try {
        if (await this.#leads()) await this.#tick();
        this.#lastProblem = '';
      } catch (error) {
        const { message } = ServiceError.from(error);
        if (message !== this.#lastProblem)
          this.#o.log.warn({ err: error }, 'the expert placement cannot be changed; trying again');
        this.#lastProblem = message;
      }
      await sleep(TICK_MS, signal).catch(() => undefined);
    }
  }

  async #leads(): Promise<boolean> {
    const { redis, model, view } = this.#o;
    if (!view.connected) return false;
    return holdLock(redis, expertLeaderKey(model), this.#id, LEADER_MS);
  }

  async #tick(): Promise<void> {
    const { view, shape, log } = this.#o;
    const { snapshot } = view;
    const { placement, next } = snapshot;
    const stored = await view.store.epochs();
    if (placement !== undefined && stored.current < placement.epoch) {
      await view.store.restore(placement);
      return view.refresh();
    }
    if (stored.current !== (placement?.epoch ?? 0) || stored.next !== (next?.epoch ?? 0)) return view.refresh();
    const usable = this.#usable(snapshot);
    if (next !== undefined) {
      const verdict = this.#judge(next, usable);
      if (verdict.kind === 'wait') return;
      if (verdict.kind === 'turn') {
        if (await view.store.turn(next.epoch)) log.info({ epoch: next.epoch }, 'expert placement in force');
      } else if (await view.store.drop(next.epoch)) {
        log.warn({ epoch: next.epoch, why: verdict.why }, 'expert placement given up');
        this.#dropped = { epoch: next.epoch, at: performance.now() };
      }
      return view.refresh();
    }
    const change = this.#neededChange(placement, usable);
    if (change === undefined || performance.now() - this.#dropped.at < AFTER_REFUSAL_MS) return;
    const planned = planPlacement({
      ...this.#o,
      shards: usable.map(({ id, capacity }) => ({ id, capacity })),
      loads: await readLoads(this.#o.redis, this.#o.model),
      current: placement,
      repair: change.repair,
    });
    const proposed = { ...planned, epoch: Math.max(planned.epoch, this.#dropped.epoch + 1) };
    checkPlacement(proposed, shape, new Set(usable.map(({ id }) => id)));
    if (await view.store.propose(proposed, stored))
      log.info({ epoch: proposed.epoch, why: change.why }, 'expert placement proposed');
    view.refresh();
  }

  /** Shards of this very model that take experts, by id. */
  #usable({ shards }: ExpertSnapshot): ShardRecord[] {
    return [...shards.values()].filter(({ fingerprint, draining }) => fingerprint === this.#o.fingerprint && !draining);
  }

  /** What is to be done with the placement that shards are loading. */
  #judge(next: Placement, usable: readonly ShardRecord[]): Verdict {
    try {
      checkPlacement(next, this.#o.shape, new Set(usable.map(({ id }) => id)));
    } catch (error) {
      return { kind: 'drop', why: ServiceError.from(error).message };
    }
    if (next.fingerprint !== this.#o.fingerprint) return { kind: 'drop', why: 'it is of another model' };
    const members = usable.filter(({ id }) => next.shards.includes(id));
    const refusal = members.find(({ refused }) => refused?.epoch === next.epoch);
    if (refusal?.refused !== undefined) return { kind: 'drop', why: `${refusal.id} refused: ${refusal.refused.reason}` };
    return { kind: members.every(({ epochs }) => epochs.includes(next.epoch)) ? 'turn' : 'wait' };
  }

  /** Why the placement in force won't do, if so; `repair`: what is where stays there. */
  #neededChange(placement: Placement | undefined, usable: readonly ShardRecord[]): { repair: boolean; why: string } | undefined {
    const { expectedShards, firstWaitMs } = this.#o;
    if (usable.length === 0) return undefined;
    if (placement === undefined || placement.fingerprint !== this.#o.fingerprint) {
      const waited = performance.now() - this.#startedAt >= firstWaitMs;
      if (usable.length < expectedShards && !waited) return undefined;
      return { repair: false, why: 'the first' };
    }
    const ids = new Set(usable.map(({ id }) => id));
    const gone = placement.shards.filter((id) => !ids.has(id));
    if (gone.length > 0) return { repair: true, why: `${gone.join(', ')} left` };
    const fresh = usable.filter(({ id }) => !placement.shards.includes(id));
    if (fresh.length > 0) return { repair: false, why: `${fresh.map(({ id }) => id).join(', ')} joined` };
    return undefined;
  }
}
