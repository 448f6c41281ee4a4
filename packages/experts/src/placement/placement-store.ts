/** The placement in Redis: the one in force, and the next, which shards load before it takes its place. Every change is compare-and-set. */
import { expertPlacementKey, type RedisConnection } from '@causeway/registry';
import type { Placement } from './placement.ts';

/** Renewed by whoever controls; without shards it vanishes. */
const TTL_MS = 24 * 3600 * 1000;

/** ARGV: epoch in force (0: none), epoch of the next (0: none), epoch and text of the proposal, TTL. */
const PROPOSE = `
local now = redis.call('HMGET', KEYS[1], 'epoch', 'next_epoch')
if (now[1] or '0') ~= ARGV[1] or (now[2] or '0') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'next_epoch', ARGV[3], 'next', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1`;

/** The next placement is in force from now on. ARGV: its epoch, TTL. */
const TURN = `
if (redis.call('HGET', KEYS[1], 'next_epoch') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'current', redis.call('HGET', KEYS[1], 'next'))
redis.call('HDEL', KEYS[1], 'next_epoch', 'next')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`;

/** The next placement is given up. ARGV: its epoch. */
const DROP = `
if (redis.call('HGET', KEYS[1], 'next_epoch') or '0') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'next_epoch', 'next')
return 1`;

/** Only when there is none, as after a restart of Redis. ARGV: epoch, text, TTL. */
const RESTORE = `
if redis.call('HEXISTS', KEYS[1], 'epoch') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'current', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`;

export class PlacementStore {
  readonly #redis: RedisConnection;
  readonly #key: string;

  constructor(redis: RedisConnection, model: string) {
    this.#redis = redis;
    this.#key = expertPlacementKey(model);
  }

  /** Epochs in force and next; 0 for none. */
  async epochs(): Promise<{ current: number; next: number }> {
    const [current, next] = await this.#redis.client.hmget(this.#key, 'epoch', 'next_epoch');
    return { current: Number(current ?? 0), next: Number(next ?? 0) };
  }

  /** The documents' texts. */
  async texts(): Promise<{ current: string | null; next: string | null }> {
    const [current = null, next = null] = await this.#redis.client.hmget(this.#key, 'current', 'next');
    return { current, next };
  }

  /** False when somebody else changed the placement since `seen`. */
  async propose(placement: Placement, seen: { current: number; next: number }): Promise<boolean> {
    const args = [String(seen.current), String(seen.next), String(placement.epoch), JSON.stringify(placement), TTL_MS];
    return (await this.#redis.client.eval(PROPOSE, 1, this.#key, ...args)) === 1;
  }

  async turn(epoch: number): Promise<boolean> {
    return (await this.#redis.client.eval(TURN, 1, this.#key, String(epoch), TTL_MS)) === 1;
  }

  async drop(epoch: number): Promise<boolean> {
    return (await this.#redis.client.eval(DROP, 1, this.#key, String(epoch))) === 1;
  }

  /** Puts a known placement back where Redis has lost it. */
  async restore(placement: Placement): Promise<boolean> {
    const args = [String(placement.epoch), JSON.stringify(placement), TTL_MS];
    return (await this.#redis.client.eval(RESTORE, 1, this.#key, ...args)) === 1;
  }

  async renew(): Promise<void> {
    await this.#redis.client.pexpire(this.#key, TTL_MS);
  }
}
