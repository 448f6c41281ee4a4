/**
 * What the NATS server says of itself: slow consumers and bytes that wait are known to it alone. One worker of a cluster tells it: who
 * holds a lock in Redis, of those that are scraped.
 */
import { holdLock, NATS_MONITOR_KEY, type RedisConnection, releaseLock } from '@causeway/registry';
import type { Logger } from '@causeway/telemetry';
import { z } from 'zod';
import type { WorkerMetrics } from './metrics.ts';

/** A scrape must not wait for a server that hangs. */
const TIMEOUT_MS = 1000;
/** Clients of one server that are counted. */
const MAX_CLIENTS = 1024;
/** A holder that is killed is replaced after this time. */
const LOCK_MS = 10_000;
/** Longer than scrapes are apart: a worker that nobody scrapes lets others tell. */
const UNSCRAPED_MS = 150_000;

const count = z.number().min(0);
const varz = z.object({
  in_bytes: count,
  out_bytes: count,
  in_msgs: count,
  out_msgs: count,
  slow_consumers: count,
  connections: count,
});
const connz = z.object({ connections: z.array(z.object({ pending_bytes: count })).nullable() });

export interface NatsServerStatsOptions {
  /** Of its monitoring port, e.g. `http://nats:8222`. */
  url: string;
  redis: RedisConnection;
  /** Unique in the cluster. A worker that starts again takes its own place. */
  workerId: string;
  log: Logger;
}

/**
 * Brings the server's metrics up to date at every scrape while this worker is the one that tells them; otherwise there are none. A server
 * that doesn't answer leaves them as they are, and is logged once. While Redis is away nobody else takes over. Disposed it gives its place
 * to another at once.
 */
export async function exportNatsServer(metrics: WorkerMetrics, options: NatsServerStatsOptions): Promise<AsyncDisposable> {
  const { url, redis, workerId, log } = options;
  const shown = [
    metrics.natsServerBytes,
    metrics.natsServerMessages,
    metrics.natsServerSlowConsumers,
    metrics.natsServerConnections,
    metrics.natsServerPending,
  ];
  const seen = new Map<string, number>();
  /** A server that was started anew counts from nothing. */
  const rise = (key: string, total: number): number => {
    const before = seen.get(key) ?? 0;
    seen.set(key, total);
    return total >= before ? total - before : total;
  };
  const clear = (): void => {
    seen.clear();
    for (const direction of ['in', 'out']) {
      metrics.natsServerBytes.remove({ direction });
      metrics.natsServerMessages.remove({ direction });
    }
    metrics.natsServerSlowConsumers.remove();
    metrics.natsServerConnections.remove();
    metrics.natsServerPending.remove();
  };
  const ask = async <T>(path: string, shape: z.ZodType<T>): Promise<T> => {
    const response = await fetch(new URL(path, url), { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return shape.parse(await response.json());
  };
  let failing = false;
  const update = async (): Promise<void> => {
    try {
      const [server, clients] = await Promise.all([ask('/varz', varz), ask(`/connz?limit=${MAX_CLIENTS}`, connz)]);
      metrics.natsServerBytes.inc({ direction: 'in' }, rise('in_bytes', server.in_bytes));
      metrics.natsServerBytes.inc({ direction: 'out' }, rise('out_bytes', server.out_bytes));
      metrics.natsServerMessages.inc({ direction: 'in' }, rise('in_msgs', server.in_msgs));
      metrics.natsServerMessages.inc({ direction: 'out' }, rise('out_msgs', server.out_msgs));
      metrics.natsServerSlowConsumers.inc(rise('slow_consumers', server.slow_consumers));
      metrics.natsServerConnections.set(server.connections);
      metrics.natsServerPending.set((clients.connections ?? []).reduce((sum, { pending_bytes }) => sum + pending_bytes, 0));
      failing = false;
    } catch (error) {
      if (!failing) log.warn({ err: error, url }, "the NATS server's monitoring port does not answer; its metrics stand still");
      failing = true;
    }
  };

  let telling = false;
  let scrapedAt = Number.NEGATIVE_INFINITY;
  const settle = async (): Promise<void> => {
    // Without Redis everybody stays what they were.
    const now = await holdLock(redis, NATS_MONITOR_KEY, workerId, LOCK_MS).catch(() => telling);
    if (telling && !now) clear();
    telling = now;
  };
  const release = async (): Promise<void> => {
    if (!telling) return;
    telling = false;
    clear();
    // A lock that can't be given back ends by itself.
    await releaseLock(redis, NATS_MONITOR_KEY, workerId).catch(() => undefined);
  };
  const keep = setInterval(() => {
    if (telling) void (performance.now() - scrapedAt < UNSCRAPED_MS ? settle() : release());
  }, LOCK_MS / 3).unref();

  let underWay: Promise<void> | undefined;
  const scraped = async (): Promise<void> => {
    scrapedAt = performance.now();
    await settle();
    if (telling) await update();
  };
  // The first use of fetch loads it, which holds the event loop: before the worker serves.
  await update();
  clear();
  for (const metric of shown)
    Object.assign(metric, { collect: () => (underWay ??= scraped().finally(() => (underWay = undefined))) });
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(keep);
      for (const metric of shown) Object.assign(metric, { collect: undefined });
      await underWay;
      await release();
    },
  };
}
