import { sleep, TaskGroup } from '@causeway/lifecycle';
import { EXPERT_INDEX_KEY, expertShardKey, type RedisConnection, type RegistryLogger } from '@causeway/registry';
import type { ShardRecord } from './shard-record.ts';

/** Removes the record only if it is still this incarnation's. KEYS: record, index. ARGV: incarnation, id. */
const DEREGISTER = `
local value = redis.call('GET', KEYS[1])
if value and string.find(value, ARGV[1], 1, true) then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[2])
end
return 0`;

const MIN_INTERVAL_MS = 50;

/** Keeps an expert shard registered under a lease; written anew when Redis comes back. Disposing deregisters. */
export class ShardRegistration implements AsyncDisposable {
  readonly #o: { redis: RedisConnection; read: () => ShardRecord; log: RegistryLogger };
  readonly #tasks: TaskGroup;
  readonly #first = Promise.withResolvers<void>();
  #wake: () => void = () => undefined;
  #dirty = false;

  /** `read` gives the record as it is now. */
  constructor(o: { redis: RedisConnection; read: () => ShardRecord; log: RegistryLogger; onCrash: (error: unknown) => void }) {
    this.#o = o;
    this.#tasks = new TaskGroup({ onCrash: o.onCrash });
    void this.#tasks.spawn('expert shard heartbeat', (signal) => this.#run(signal));
  }

  get registered(): Promise<void> {
    return this.#first.promise;
  }

  /** Writes soon. */
  touch(): void {
    this.#dirty = true;
    this.#wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
    const { id, incarnation } = this.#o.read();
    await this.#o.redis.client
      .eval(DEREGISTER, 2, expertShardKey(id), EXPERT_INDEX_KEY, incarnation, id)
      .catch((error: unknown) => this.#o.log.warn({ err: error }, 'could not deregister; the lease will end'));
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failing = false;
    while (!signal.aborted) {
      this.#dirty = false;
      const record = this.#o.read();
      try {
        await this.#o.redis.client
          .multi()
          .set(expertShardKey(record.id), JSON.stringify(record), 'PX', record.leaseMs)
          .sadd(EXPERT_INDEX_KEY, record.id)
          .pexpire(EXPERT_INDEX_KEY, Math.max(60_000, record.leaseMs * 20))
          .exec();
        failing = false;
        this.#first.resolve();
      } catch (error) {
        if (!failing) this.#o.log.warn({ err: error }, 'heartbeat failed; trying again');
        failing = true;
      }
      await sleep(MIN_INTERVAL_MS, signal).catch(() => undefined);
      if (!failing && !this.#dirty) await this.#rest(record.leaseMs / 3, signal);
    }
  }

  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await sleep(ms, AbortSignal.any([signal, woken.signal])).catch(() => undefined);
    this.#wake = () => undefined;
  }
}
