/** Live view of a model's shards and placement, by polling. While Redis is away what was known last stays in force. */
import { sleep, TaskGroup } from '@causeway/lifecycle';
import { EXPERT_INDEX_KEY, expertShardKey, isWorkerId, type RedisConnection, type RegistryLogger } from '@causeway/registry';
import { parsePlacement, type Placement } from './placement.ts';
import { PlacementStore } from './placement-store.ts';
import { MAX_SHARD_RECORD_BYTES, parseShardRecord, type ShardRecord } from './shard-record.ts';

export interface ExpertSnapshot {
  placement: Placement | undefined;
  /** Being loaded. */
  next: Placement | undefined;
  shards: ReadonlyMap<string, ShardRecord>;
}

const MAX_SHARDS = 4096;

export class ExpertView implements AsyncDisposable {
  readonly store: PlacementStore;
  readonly #o: { redis: RedisConnection; model: string; log?: RegistryLogger; pollMs?: number };
  readonly #tasks: TaskGroup;
  readonly #onConnection: Disposable;
  readonly #listeners = new Set<(snapshot: ExpertSnapshot) => void>();
  readonly #first = Promise.withResolvers<void>();
  #snapshot: ExpertSnapshot = { placement: undefined, next: undefined, shards: new Map() };
  #graceUntil = 0;
  #poll: () => void = () => undefined;
  #text = '';

  /** Reading begins at once. */
  constructor(o: {
    redis: RedisConnection;
    model: string;
    log?: RegistryLogger;
    /** Default 200 ms. */
    pollMs?: number;
    onCrash?: (error: unknown) => void;
  }) {
    this.#o = o;
    this.store = new PlacementStore(o.redis, o.model);
    this.#tasks = new TaskGroup({ onCrash: (error) => o.onCrash?.(error) });
    this.#onConnection = o.redis.onChange((connected) => {
      if (connected) this.#graceUntil = performance.now() + this.#longestLease();
    });
    void this.#tasks.spawn('expert placement poll', (signal) => this.#run(signal));
  }

  get snapshot(): ExpertSnapshot {
    return this.#snapshot;
  }

  /** After the first successful read. */
  get loaded(): Promise<void> {
    return this.#first.promise;
  }

  get connected(): boolean {
    return this.#o.redis.connected;
  }

  /** Called after each change. */
  onChange(listener: (snapshot: ExpertSnapshot) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Reads again now, not at the next poll. */
  refresh(): void {
    this.#poll();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#onConnection[Symbol.dispose]();
    await this.#tasks[Symbol.asyncDispose]();
    this.#listeners.clear();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failing = false;
    while (!signal.aborted) {
      try {
        await this.#read();
        failing = false;
        this.#first.resolve();
      } catch (error) {
        if (!failing) this.#o.log?.warn({ err: error }, 'the expert placement cannot be read; the last one stays in force');
        failing = true;
      }
      const woken = new AbortController();
      this.#poll = () => woken.abort();
      await sleep(this.#o.pollMs ?? 200, AbortSignal.any([signal, woken.signal])).catch(() => undefined);
      // However often it is asked, it reads so often at most.
      if (woken.signal.aborted) await sleep(20, signal).catch(() => undefined);
    }
  }

  async #read(): Promise<void> {
    const shards = await this.#readShards();
    const { placement, next } = await this.#readPlacements();
    const text = JSON.stringify([placement?.epoch, next?.epoch, [...shards.values()]]);
    if (text === this.#text) return;
    this.#text = text;
    this.#snapshot = { placement, next, shards };
    for (const listener of this.#listeners) listener(this.#snapshot);
  }

  async #readPlacements(): Promise<Pick<ExpertSnapshot, 'placement' | 'next'>> {
    const known = this.#snapshot;
    const epochs = await this.store.epochs();
    if (epochs.current === (known.placement?.epoch ?? 0) && epochs.next === (known.next?.epoch ?? 0)) return known;
    const { current, next } = await this.store.texts();
    const placement = current === null ? undefined : this.#parse(current, known.placement);
    return {
      // A placement that Redis has lost, or an older one, doesn't undo the one in force.
      placement: (placement?.epoch ?? 0) >= (known.placement?.epoch ?? 0) ? placement : known.placement,
      next: next === null ? undefined : this.#parse(next, known.next),
    };
  }

  #parse(text: string, known: Placement | undefined): Placement | undefined {
    const parsed = parsePlacement(text);
    if (typeof parsed !== 'string' && parsed.model === this.#o.model) return parsed;
    this.#o.log?.warn({ why: parsed }, 'ignored a value in Redis that is not an expert placement of this model');
    return known;
  }

  async #readShards(): Promise<Map<string, ShardRecord>> {
    const { client } = this.#o.redis;
    const members = (await client.smembers(EXPERT_INDEX_KEY)).filter(isWorkerId).slice(0, MAX_SHARDS).sort();
    const pipeline = client.pipeline();
    for (const id of members) pipeline.getrange(expertShardKey(id), 0, MAX_SHARD_RECORD_BYTES);
    const values = members.length === 0 ? [] : ((await pipeline.exec()) ?? []);
    const shards = new Map<string, ShardRecord>();
    for (const [i, id] of members.entries()) {
      const [error, value] = values[i] ?? [];
      if (error !== null && error !== undefined) continue;
      const record = typeof value === 'string' && value !== '' ? parseShardRecord(id, value) : undefined;
      if (record?.model === this.#o.model) shards.set(id, record);
    }
    if (performance.now() < this.#graceUntil) {
      for (const [id, record] of this.#snapshot.shards) if (!shards.has(id)) shards.set(id, record);
    }
    return shards;
  }

  #longestLease(): number {
    return Math.max(0, ...[...this.#snapshot.shards.values()].map(({ leaseMs }) => leaseMs));
  }
}
