/** What the NATS server says of itself: slow consumers and bytes that wait are known to it alone. */
import type { Logger } from '@causeway/telemetry';
import { z } from 'zod';
import type { WorkerMetrics } from './metrics.ts';

/** A scrape must not wait for a server that hangs. */
const TIMEOUT_MS = 1000;
/** Clients of one server that are counted. */
const MAX_CLIENTS = 1024;

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

/**
 * Brings the server's metrics up to date at every scrape. A server that doesn't answer leaves them as they are, and is logged once.
 * @param url of its monitoring port, e.g. `http://nats:8222`
 */
export async function exportNatsServer(metrics: WorkerMetrics, url: string, log: Logger): Promise<void> {
  const seen = new Map<string, number>();
  /** A server that was started anew counts from nothing. */
  const rise = (key: string, total: number): number => {
    const before = seen.get(key) ?? 0;
    seen.set(key, total);
    return total >= before ? total - before : total;
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
  // The first use of fetch loads it, which holds the event loop: before the worker serves.
  await update();
  Object.assign(metrics.natsServerConnections, { collect: update });
}
