/** Locks in Redis that end by themselves: whose turn it is among processes that would all do the same. */
import type { RedisConnection } from './connection.ts';

/** Takes or keeps the lock. KEYS: lock. ARGV: holder, milliseconds. */
const HOLD = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

/** Gives it back, if it is the holder's. KEYS: lock. ARGV: holder. */
const RELEASE = `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0`;

/** Takes or keeps a lock for so many milliseconds; false when another holds it. Throws when Redis does not answer. */
export async function holdLock(redis: RedisConnection, key: string, holder: string, ms: number): Promise<boolean> {
  return (await redis.client.eval(HOLD, 1, key, holder, ms)) === 1;
}

/** Gives a lock back; does nothing when another holds it. Throws when Redis does not answer. */
export async function releaseLock(redis: RedisConnection, key: string, holder: string): Promise<void> {
  await redis.client.eval(RELEASE, 1, key, holder);
}
