import { deadlineSignal, sleep, TaskGroup } from '@causeway/lifecycle';
import type { RedisConnection, RegistryLogger } from './connection.ts';
import { WORKER_INDEX_KEY, workerKey } from './keys.ts';
import { checkWorkerRecord, encodeRegistration, type WorkerRecord, type WorkerState } from './worker-record.ts';

export interface RegistryWriterOptions {
  redis: RedisConnection;
  record: WorkerRecord;
  /** The worker is gone from Redis this long after its last heartbeat; heartbeats come three times as often. At least 300. */
  leaseMs: number;
  log?: RegistryLogger;
  /** Shortest time between two writes when the load changes; default 100 ms. */
  minIntervalMs?: number;
  /** Told of a failure that no retry can mend (a bug). */
  onCrash?: (error: unknown) => void;
}

/** The index outlives workers by this, so that readers see the last lease end; then it vanishes by itself. */
const INDEX_TTL_FACTOR = 20;
/** Heartbeats between two sweeps of dead ids from the index. */
const SWEEP_EVERY = 20;
const SWEEP_LIMIT = 4096;

/** Removes the record only if it is still this incarnation's. KEYS: record, index. ARGV: `"incarnation":"..."`, id. */
const DEREGISTER = `
local value = redis.call('GET', KEYS[1])
if value and string.find(value, ARGV[1], 1, true) then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[2])
  return 1
end
return 0`;

/**
 * Keeps one worker registered: writes its record under a lease at once, at every third of the lease, and soon after its load changes.
 * While Redis is away it keeps trying; when Redis comes back empty the next write registers the worker anew.
 * Disposing deregisters (only its own incarnation).
 */
export class RegistryWriter implements AsyncDisposable {
  readonly #options: RegistryWriterOptions;
  readonly #key: string;
  readonly #tasks: TaskGroup;
  readonly #onConnection: Disposable;
  #record: WorkerRecord;
  #beat = 0;
  #written = 0;
  #dirty = true;
  #wake: () => void = () => undefined;
  #first = Promise.withResolvers<void>();
  #rivals = new Set<string>();
  #disposed: Promise<void> | undefined;

  /** Throws ServiceError `bad_registration` when the record is not valid. Writing begins at once. */
  constructor(options: RegistryWriterOptions) {
    this.#options = options;
    this.#record = checkWorkerRecord(options.record);
    this.#key = workerKey(this.#record.id);
    this.#tasks = new TaskGroup({ onCrash: (error) => options.onCrash?.(error) });
    this.#onConnection = options.redis.onChange((connected) => {
      if (connected) this.#touch();
    });
    void this.#tasks.spawn('registry heartbeat', (signal) => this.#run(signal));
  }

  /** Resolves when the record was written for the first time. */
  get registered(): Promise<void> {
    return this.#first.promise;
  }

  /** Number of successful writes. */
  get writes(): number {
    return this.#written;
  }

  /** Changes the load, the rates or the draining mark; written within `minIntervalMs`. */
  update(state: Partial<WorkerState>): void {
    this.#record = { ...this.#record, ...state };
    this.#touch();
  }

  /** Deregisters and stops. Waits for Redis no longer than one command takes. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#onConnection[Symbol.dispose]();
    await this.#tasks[Symbol.asyncDispose]();
    const { id, incarnation } = this.#record;
    try {
      await this.#options.redis.client.eval(
        DEREGISTER,
        2,
        this.#key,
        WORKER_INDEX_KEY,
        `"incarnation":${JSON.stringify(incarnation)}`,
        id,
      );
    } catch (error) {
      this.#options.log?.warn({ err: error, workerId: id }, 'could not deregister; the lease will end');
    }
  }

  #touch(): void {
    this.#dirty = true;
    this.#wake();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { minIntervalMs = 100, leaseMs } = this.#options;
    const heartbeatMs = Math.max(100, leaseMs / 3);
    let failing = false;
    while (!signal.aborted) {
      this.#dirty = false;
      try {
        await this.#write();
        failing = false;
        this.#first.resolve();
      } catch (error) {
        if (!failing) this.#options.log?.warn({ err: error, workerId: this.#record.id }, 'heartbeat failed; trying again');
        failing = true;
      }
      await sleep(minIntervalMs, signal).catch(() => undefined);
      // A failed write is repeated after the short interval; otherwise the next change or heartbeat is waited for.
      if (!failing && !this.#dirty) await this.#next(Math.max(0, heartbeatMs - minIntervalMs), signal);
    }
  }

  #next(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const timer = deadlineSignal(ms, signal);
      // Keeps the process alive as its other work does, not by this timer.
      const done = (): void => {
        timer[Symbol.dispose]();
        this.#wake = () => undefined;
        resolve();
      };
      this.#wake = done;
      if (timer.signal.aborted) done();
      else timer.signal.addEventListener('abort', done, { once: true });
    });
  }

  async #write(): Promise<void> {
    const { client } = this.#options.redis;
    const { leaseMs } = this.#options;
    const { id } = this.#record;
    const value = encodeRegistration({ worker: this.#record, beat: this.#beat++, leaseMs: Math.max(300, Math.round(leaseMs)) });
    const previous = await client
      .set(this.#key, value, 'PX', Math.max(300, Math.round(leaseMs)), 'GET')
      .catch(replaceWrongType(client, this.#key));
    const indexTtlMs = Math.max(60_000, Math.round(leaseMs * INDEX_TTL_FACTOR));
    const add = async (): Promise<unknown> => {
      await client.sadd(WORKER_INDEX_KEY, id);
      return client.pexpire(WORKER_INDEX_KEY, indexTtlMs);
    };
    await add().catch(async (error: unknown) => {
      await replaceWrongType(client, WORKER_INDEX_KEY)(error);
      this.#options.log?.warn({ key: WORKER_INDEX_KEY }, 'the index of workers held something else and was replaced');
      await add();
    });
    this.#written++;
    if (this.#written > 1) this.#reportRival(previous);
    if (this.#written % SWEEP_EVERY === 0) await this.#sweep();
  }

  /** Another live process that uses the same worker id is a mistake of configuration that nothing else would show. */
  #reportRival(previous: string | null): void {
    const rival = previous === null ? undefined : /"incarnation":"([A-Za-z0-9-]{1,64})"/.exec(previous.slice(0, 4096))?.[1];
    if (rival === undefined || rival === this.#record.incarnation || this.#rivals.has(rival) || this.#rivals.size > 100) return;
    this.#rivals.add(rival);
    this.#options.log?.error(
      { workerId: this.#record.id, rival },
      'another process registers under the same worker id; give each its own',
    );
  }

  async #sweep(): Promise<void> {
    const { client } = this.#options.redis;
    const [, ids] = await client.sscan(WORKER_INDEX_KEY, 0, 'COUNT', SWEEP_LIMIT);
    for (let from = 0; from < ids.length; from += 256) {
      const some = ids.slice(from, from + 256);
      const exists = await Promise.all(some.map((member) => keyExists(client, member)));
      const dead = some.filter((_, i) => exists[i] === false);
      if (dead.length > 0) await client.srem(WORKER_INDEX_KEY, ...dead);
    }
  }
}

async function keyExists(client: RedisConnection['client'], id: string): Promise<boolean> {
  try {
    return (await client.exists(workerKey(id))) === 1;
  } catch (error) {
    // An id that cannot be a key is rubbish in our index; anything else is Redis failing: keep the member.
    return !(error instanceof Error && error.name === 'ServiceError');
  }
}

/** Deletes a key of ours that holds another type; rethrows every other error. */
function replaceWrongType(client: RedisConnection['client'], key: string): (error: unknown) => Promise<null> {
  return async (error) => {
    if (!(error instanceof Error) || !error.message.includes('WRONGTYPE')) throw error;
    await client.del(key);
    return null;
  };
}
