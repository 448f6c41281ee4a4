import { ServiceError } from '@causeway/errors';
import { abortable } from '@causeway/lifecycle';
import type { WorkerRecord } from '@causeway/registry';
import {
  explainRejections,
  type Need,
  type PlacementDecision,
  type PlanDecision,
  planAttempt,
  type Snapshot,
  snapshotOf,
} from '@causeway/scheduling';
import { exchangeOf } from './exchange.ts';
import { type GivenWork, type WorkerDirectory, workerState } from './directory.ts';

/** What an attempt asks for. */
export interface Ask {
  readonly need: Need;
  readonly placement: PlacementDecision;
  /** Longest wait for a place. */
  readonly waitMs: number;
  /** Wait even when nobody can serve it now: another worker may appear. */
  readonly patient: boolean;
}

/** Workers chosen for an attempt, with a place at each. Disposing gives the places back. */
export interface Places extends Disposable {
  readonly prefill: WorkerRecord | undefined;
  readonly decode: WorkerRecord;
  /** How long the request waited here. */
  readonly waitedMs: number;
  /** The prefill worker has done its part. */
  releasePrefill(): void;
}

/** Requests in line, and requests that have their places. */
export interface DispatcherLoad {
  readonly waiting: number;
  readonly running: number;
}

interface Waiter {
  readonly ask: Ask;
  readonly since: number;
  last: PlanDecision;
  readonly done: PromiseWithResolvers<Places>;
}

/**
 * The router's bounded queue. Requests that find no place wait here, oldest first; each change of the workers or of what they
 * were given tries them again. Full: `queue_full`. The order of resources is the prefill worker's place, then decode room.
 */
export class Dispatcher implements Disposable {
  readonly #directory: WorkerDirectory;
  readonly #maxQueue: number;
  readonly #onChange: (load: DispatcherLoad) => void;
  readonly #given = new Map<string, GivenWork & { readonly address: string }>();
  #running = 0;
  readonly #waiters = new Set<Waiter>();
  readonly #subscription: Disposable;
  #pumping = false;

  constructor(directory: WorkerDirectory, options: { maxQueue: number; onChange?: (load: DispatcherLoad) => void }) {
    this.#directory = directory;
    this.#maxQueue = options.maxQueue;
    this.#onChange = options.onChange ?? (() => undefined);
    this.#subscription = directory.onChange(() => this.#schedulePump());
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /**
   * Finds workers with room, waiting in line if there are none.
   * @throws ServiceError `unavailable/no_workers`, `resource_exhausted` (`queue_full`, `no_capacity`), or the signal's reason.
   */
  async acquire(ask: Ask, signal: AbortSignal): Promise<Places> {
    signal.throwIfAborted();
    const waiter: Waiter = {
      ask,
      since: performance.now(),
      last: { kind: 'busy', rejections: [] },
      done: Promise.withResolvers(),
    };
    this.#waiters.add(waiter);
    this.#pump();
    if (this.#waiters.has(waiter)) {
      const refusal = this.#refusal(waiter);
      if (refusal !== undefined) {
        this.#forget(waiter);
        throw refusal;
      }
      this.#report();
    }
    const timer = setTimeout(() => waiter.done.reject(this.#waitedTooLong(waiter)), ask.waitMs);
    try {
      return await abortable(waiter.done.promise, signal);
    } catch (error) {
      // A place given in the same turn as the abort goes back.
      if (!this.#waiters.has(waiter))
        void waiter.done.promise.then(
          (places) => places[Symbol.dispose](),
          () => undefined,
        );
      throw error;
    } finally {
      clearTimeout(timer);
      this.#forget(waiter);
    }
  }

  /** Whether another prefill worker could take the prompt right now. */
  canPrefillElsewhere(need: Need): boolean {
    return planAttempt(this.#snapshot(), need, { mode: 'disaggregated', by: 'request' }).kind === 'disaggregated';
  }

  /** Addresses of workers that attempts use, registered or not. */
  get addresses(): readonly string[] {
    return [...this.#given.values()].map((given) => given.address);
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    for (const waiter of this.#waiters) {
      waiter.done.reject(
        new ServiceError('the router is shutting down', { code: 'unavailable', reason: 'draining', retry: 'other' }),
      );
    }
    this.#waiters.clear();
  }

  #report(): void {
    this.#onChange({ waiting: this.#waiters.size, running: this.#running });
  }

  #forget(waiter: Waiter): void {
    if (this.#waiters.delete(waiter)) this.#report();
  }

  #refusal(waiter: Waiter): ServiceError | undefined {
    if (waiter.last.kind === 'none' && !waiter.ask.patient) return noWorkers(waiter.last);
    if (this.#waiters.size <= this.#maxQueue) return undefined;
    return new ServiceError(`every worker is busy and ${this.#maxQueue} requests wait already; try again later`, {
      code: 'resource_exhausted',
      reason: 'queue_full',
      retry: 'same',
      retryAfterSeconds: this.#retryAfterSeconds(),
    });
  }

  #waitedTooLong(waiter: Waiter): ServiceError {
    if (waiter.last.kind === 'none') return noWorkers(waiter.last);
    const why = waiter.last.kind === 'busy' ? explainRejections(waiter.last.rejections) : '';
    return new ServiceError(`no worker had room within ${waiter.ask.waitMs} ms: ${why}`, {
      code: 'resource_exhausted',
      reason: 'no_capacity',
      retry: 'same',
      retryAfterSeconds: this.#retryAfterSeconds(),
    });
  }

  /** As long as the oldest request has waited, between 1 and 30 s: what a newcomer would wait at least. */
  #retryAfterSeconds(): number {
    const [oldest] = this.#waiters;
    const waitedMs = oldest === undefined ? 0 : performance.now() - oldest.since;
    return Math.min(30, Math.max(1, Math.ceil(waitedMs / 1000)));
  }

  #schedulePump(): void {
    if (this.#pumping || this.#waiters.size === 0) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  /** Oldest first; one that can't be placed doesn't hold up the others. What workers have to do is the same for all until one is placed. */
  #pump(): void {
    let snapshot: Snapshot | undefined;
    for (const waiter of this.#waiters) {
      snapshot ??= this.#snapshot();
      waiter.last = plan(snapshot, waiter.ask);
      if (waiter.last.kind !== 'disaggregated' && waiter.last.kind !== 'local') continue;
      const places = this.#take(waiter, waiter.last);
      if (places === undefined) continue;
      snapshot = undefined;
      this.#forget(waiter);
      waiter.done.resolve(places);
    }
  }

  #snapshot(): Snapshot {
    const given = (record: WorkerRecord): GivenWork | undefined => this.#given.get(`${record.role} ${record.incarnation}`);
    const records = this.#directory.workers();
    const states = records.map((record) => workerState(record, given(record)));
    return snapshotOf(states, exchangeOf(records));
  }

  #take(waiter: Waiter, plan: Extract<PlanDecision, { kind: 'disaggregated' | 'local' }>): Places | undefined {
    const records = this.#directory.workers();
    const find = (incarnation: string): WorkerRecord | undefined => records.find((record) => record.incarnation === incarnation);
    const decode = find(plan.decode.incarnation);
    const prefill = plan.kind === 'disaggregated' ? find(plan.prefill.incarnation) : undefined;
    if (decode === undefined || (plan.kind === 'disaggregated' && prefill === undefined)) return undefined;
    const { promptTokens, sequences } = waiter.ask.need;
    const releasePrefill = prefill === undefined ? () => undefined : this.#give(prefill, promptTokens, 1);
    const releaseDecode = this.#give(decode, promptTokens, sequences);
    this.#running++;
    let held = true;
    return {
      decode,
      prefill,
      waitedMs: performance.now() - waiter.since,
      releasePrefill,
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#running--;
        releasePrefill();
        releaseDecode();
        this.#report();
      },
    };
  }

  /** Counts a request at a worker, as `requests`; the function given takes it off again, once. */
  #give(worker: WorkerRecord, promptTokens: number, requests: number): () => void {
    const key = `${worker.role} ${worker.incarnation}`;
    const given = this.#given.get(key) ?? { requests: 0, promptTokens: 0, address: worker.address };
    this.#given.set(key, given);
    given.requests += requests;
    given.promptTokens += promptTokens;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      given.requests -= requests;
      given.promptTokens -= promptTokens;
      if (given.requests === 0) this.#given.delete(key);
      this.#schedulePump();
    };
  }
}

function plan(snapshot: Snapshot, { need, placement }: Ask): PlanDecision {
  const decision = planAttempt(snapshot, need, placement);
  if (decision.kind !== 'none' || need.avoid.size === 0) return decision;
  // Nobody else is left: a worker that failed before and is still registered is better than none.
  return planAttempt(snapshot, { ...need, avoid: new Set() }, placement);
}

function noWorkers(decision: Extract<PlanDecision, { kind: 'none' }>): ServiceError {
  const why = decision.rejections.length === 0 ? 'none is registered' : explainRejections(decision.rejections);
  return new ServiceError(`no ${decision.missing} worker can serve this request: ${why}`, {
    code: 'unavailable',
    reason: 'no_workers',
    retry: 'same',
    retryAfterSeconds: 2,
  });
}
