import { setImmediate as nextTurn } from 'node:timers/promises';
import { sleep, TaskGroup } from '@causeway/lifecycle';
import type { RedisConnection, RegistryLogger } from './connection.ts';
import { isWorkerId, WORKER_INDEX_KEY, workerKey } from './keys.ts';
import { type DecodeCache, decodeRegistration, MAX_RECORD_BYTES, type Registration, type WorkerRecord } from './worker-record.ts';

/** The workers known at one moment; never changed. */
export interface RegistrySnapshot {
  readonly workers: readonly WorkerRecord[];
  /** Grows with each change. */
  readonly version: number;
}

export interface RegistryViewOptions {
  redis: RedisConnection;
  log?: RegistryLogger;
  /** Time between two reads; default 250 ms. */
  pollMs?: number;
  /** Told of each value under our keys that is not a registration, once per key and cause. */
  onIgnored?: (key: string, why: string) => void;
  /** Told of a failure that no retry can mend (a bug). */
  onCrash?: (error: unknown) => void;
}

/** A worker hidden because its connection failed. */
interface Hidden {
  incarnation: string;
  /** Number of the read that was the latest, or under way, when it was hidden. */
  atRead: number;
  /** Heartbeat seen by the first read begun afterwards; a later one proves life. */
  baseline: number | undefined;
}

const MAX_WORKERS = 4096;
/** Fresh identities parsed before the event loop gets a turn. */
const PARSE_BATCH = 8;
const MAX_REMEMBERED_RUBBISH = 10_000;

/**
 * A live snapshot of the registered workers, by polling. Redis away: the last snapshot stays. Redis back but empty: what was known
 * stays for one lease, so that workers can register anew. Values that are not registrations are ignored, logged once and counted.
 */
export class RegistryView implements AsyncDisposable {
  readonly #options: RegistryViewOptions;
  readonly #tasks: TaskGroup;
  readonly #onConnection: Disposable;
  readonly #listeners = new Set<(snapshot: RegistrySnapshot) => void>();
  readonly #cache = new Map<string, DecodeCache>();
  readonly #hidden = new Map<string, Hidden>();
  readonly #reported = new Set<string>();
  #known = new Map<string, Registration>();
  #graceUntil = 0;
  #snapshot: RegistrySnapshot = Object.freeze({ workers: Object.freeze([]), version: 0 });
  #fingerprint = '';
  #reads = 0;
  #ignored = 0;
  #first = Promise.withResolvers<void>();

  /** Reading begins at once. */
  constructor(options: RegistryViewOptions) {
    this.#options = options;
    this.#tasks = new TaskGroup({ onCrash: (error) => options.onCrash?.(error) });
    this.#onConnection = options.redis.onChange((connected) => {
      if (connected) this.#beginGrace();
    });
    void this.#tasks.spawn('registry poll', (signal) => this.#run(signal));
  }

  /** The workers known now. */
  get snapshot(): RegistrySnapshot {
    return this.#snapshot;
  }

  /** Resolves after the first successful read. */
  get loaded(): Promise<void> {
    return this.#first.promise;
  }

  get connected(): boolean {
    return this.#options.redis.connected;
  }

  /** Values ignored so far (each key counts once per cause). */
  get ignored(): number {
    return this.#ignored;
  }

  /** Called after each change of the snapshot. */
  onChange(listener: (snapshot: RegistrySnapshot) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Takes a worker out at once, because its connection failed; it comes back with a heartbeat written after this, or with another incarnation. */
  remove(workerId: string, incarnation: string): void {
    if (this.#known.get(workerId)?.worker.incarnation !== incarnation) return;
    this.#hidden.set(workerId, { incarnation, atRead: this.#reads, baseline: undefined });
    this.#publish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#onConnection[Symbol.dispose]();
    await this.#tasks[Symbol.asyncDispose]();
    this.#listeners.clear();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { pollMs = 250, log } = this.#options;
    let failing = false;
    while (!signal.aborted) {
      try {
        await this.#read();
        failing = false;
        this.#first.resolve();
      } catch (error) {
        if (!failing)
          log?.warn(
            { err: error, workers: this.#snapshot.workers.length },
            'the registry cannot be read; the last snapshot stays in use',
          );
        failing = true;
        this.#graceUntil = Number.POSITIVE_INFINITY;
      }
      await sleep(pollMs, signal).catch(() => undefined);
    }
  }

  async #read(): Promise<void> {
    const read = ++this.#reads;
    const ids = await this.#ids();
    const fresh = await this.#registrations(ids);
    // After an outage the first good read starts the clock for those who are missing.
    if (this.#graceUntil === Number.POSITIVE_INFINITY) this.#beginGrace();
    if (performance.now() < this.#graceUntil) {
      for (const [id, registration] of this.#known) if (!fresh.has(id)) fresh.set(id, registration);
    }
    this.#known = fresh;
    for (const [id, hidden] of this.#hidden) {
      const registration = fresh.get(id);
      if (registration === undefined || registration.worker.incarnation !== hidden.incarnation) this.#hidden.delete(id);
      else if (hidden.baseline === undefined) {
        if (read > hidden.atRead) hidden.baseline = registration.beat;
      } else if (registration.beat > hidden.baseline) this.#hidden.delete(id);
    }
    for (const id of this.#cache.keys()) if (!fresh.has(id)) this.#cache.delete(id);
    this.#publish();
  }

  async #ids(): Promise<string[]> {
    const { client } = this.#options.redis;
    // Workers known already are read whatever became of the index.
    const ids = new Set<string>(this.#known.keys());
    let cursor = '0';
    try {
      do {
        const [next, members] = await client.sscan(WORKER_INDEX_KEY, cursor, 'COUNT', 512);
        cursor = next;
        for (const member of members) {
          if (isWorkerId(member)) ids.add(member);
          else this.#ignore(`${WORKER_INDEX_KEY} ${JSON.stringify(member.slice(0, 80))}`, 'not a worker id');
        }
      } while (cursor !== '0' && ids.size < MAX_WORKERS);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.includes('WRONGTYPE')) throw error;
      this.#ignore(WORKER_INDEX_KEY, 'not a set');
    }
    return [...ids].slice(0, MAX_WORKERS);
  }

  async #registrations(ids: readonly string[]): Promise<Map<string, Registration>> {
    const found = new Map<string, Registration>();
    if (ids.length === 0) return found;
    const pipeline = this.#options.redis.client.pipeline();
    // GETRANGE, not GET: a huge value costs no more than the limit.
    for (const id of ids) pipeline.getrange(workerKey(id), 0, MAX_RECORD_BYTES);
    const results = (await pipeline.exec()) ?? [];
    let parsed = 0;
    for (const [i, id] of ids.entries()) {
      const [error, value] = results[i] ?? [new Error('no answer'), undefined];
      if (error !== null) {
        if (!error.message.includes('WRONGTYPE')) throw error;
        this.#ignore(workerKey(id), 'not a string');
      } else if (typeof value === 'string' && value !== '') {
        const cached = this.#cache.get(id);
        const result = decodeRegistration(id, value, cached);
        if (result.kind === 'ok') {
          found.set(id, result.registration);
          this.#cache.set(id, result.cache);
        } else this.#ignore(workerKey(id), result.why);
        if (cached !== undefined && result.kind === 'ok' && result.cache.identity === cached.identity) continue;
        if (++parsed % PARSE_BATCH === 0) await nextTurn();
      }
    }
    return found;
  }

  #beginGrace(): void {
    const longest = Math.max(0, ...[...this.#known.values()].map((registration) => registration.leaseMs));
    this.#graceUntil = performance.now() + longest;
  }

  #ignore(key: string, why: string): void {
    const mark = `${key} ${why}`;
    if (this.#reported.has(mark)) return;
    if (this.#reported.size >= MAX_REMEMBERED_RUBBISH) this.#reported.clear();
    this.#reported.add(mark);
    this.#ignored++;
    this.#options.log?.warn({ key, why }, 'ignored a value in Redis that is not a worker registration');
    this.#options.onIgnored?.(key, why);
  }

  #publish(): void {
    const visible = [...this.#known.entries()].filter(([id]) => !this.#hidden.has(id)).sort(([a], [b]) => (a < b ? -1 : 1));
    // Beats count as changes only through what they carry.
    const fingerprint = visible
      .map(([id, { worker }]) => `${id} ${worker.incarnation} ${JSON.stringify([worker.load, worker.rates, worker.draining])}`)
      .join('\n');
    if (fingerprint === this.#fingerprint && this.#snapshot.version > 0) return;
    this.#fingerprint = fingerprint;
    this.#snapshot = Object.freeze({
      workers: Object.freeze(visible.map(([, { worker }]) => worker)),
      version: this.#snapshot.version + 1,
    });
    for (const listener of this.#listeners) listener(this.#snapshot);
  }
}
