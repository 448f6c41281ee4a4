/** Checks of a NATS server by what its monitoring port tells: limits that would cut workers off. */
import { formatBytes } from '@causeway/topology';
import { z } from 'zod';
import { type Finding, ok, problem, warning } from './finding.ts';

const TIMEOUT_MS = 5000;
/** Causeway keeps less in flight on a connection; the server cuts off one for which more waits. */
const MIN_PENDING = 16 * 1024 ** 2;
/** A client that takes nothing for this long is cut off: below it a busy worker is one. */
const MIN_WRITE_DEADLINE_NS = 2e9;
/** A worker has two connections, for KV and for control. */
const CONNECTIONS_EACH = 2;

const varz = z.object({
  max_connections: z.number(),
  max_pending: z.number(),
  write_deadline: z.number(),
  slow_consumers: z.number(),
  connections: z.number(),
});

/**
 * @param url such as `http://nats:8222`
 * @param workers that have to find room in it; undefined: not known
 */
export async function checkNatsMonitoring(url: string, workers: number | undefined): Promise<Finding[]> {
  const what = `NATS monitoring at ${URL.parse(url)?.host ?? url}`;
  let server: z.infer<typeof varz>;
  try {
    const response = await fetch(new URL('/varz', url), { signal: AbortSignal.timeout(TIMEOUT_MS) });
    server = varz.parse(await response.json());
  } catch (error) {
    const { message, cause } = error as Error;
    const why = cause instanceof Error ? cause.message : (message.split('\n')[0] ?? '');
    return [
      problem(what, why, 'set http_port of nats-server, or correct CAUSEWAY_NATS_MONITORING_URL: dashboards of NATS stay empty'),
    ];
  }
  const needed = CONNECTIONS_EACH * (workers ?? 0);
  const connections = `${server.connections} of ${server.max_connections}`;
  const deadline = `${server.write_deadline / 1e9} s`;
  return [
    server.max_connections < needed
      ? problem(`${what}, max_connections`, connections, `set it above ${needed}: each worker has ${CONNECTIONS_EACH}`)
      : ok(`${what}, connections`, connections),
    server.max_pending < MIN_PENDING
      ? warning(
          `${what}, max_pending`,
          formatBytes(server.max_pending),
          `leave it at 64MB: workers for which ${formatBytes(MIN_PENDING)} wait must not be cut off`,
        )
      : ok(`${what}, max_pending`, formatBytes(server.max_pending)),
    server.write_deadline < MIN_WRITE_DEADLINE_NS
      ? warning(`${what}, write_deadline`, deadline, 'leave it at 10s: a worker that is busy for a moment must not be cut off')
      : ok(`${what}, write_deadline`, deadline),
    server.slow_consumers > 0
      ? warning(
          `${what}, slow consumers`,
          `${server.slow_consumers} since it started`,
          'see CausewayNatsSlowConsumer in docs/operations.md',
        )
      : ok(`${what}, slow consumers`, 'none since it started'),
  ];
}
