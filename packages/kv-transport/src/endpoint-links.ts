/** The two connections of an endpoint: frames on bulk, everything else on control. */
import type { TransportLog } from './context.ts';
import type { KvEndpointOptions } from './endpoint-options.ts';
import type { KvLink } from './kv-link.ts';
import { NatsLink, type NatsLinkOptions } from './nats-link.ts';

/**
 * Opens both, waiting for the server; `changed` is told when one of them goes down or comes back.
 * @throws ServiceError `dependency_unavailable` at the deadline, `bad_config` when the server refuses the credentials
 */
export async function connectLinks(
  options: KvEndpointOptions,
  log: TransportLog,
  changed: (status: 'down' | 'up') => void,
): Promise<{ bulk: KvLink; control: KvLink }> {
  const connect = options.connectLink ?? ((linkOptions: NatsLinkOptions) => NatsLink.connect(linkOptions));
  const open = (kind: 'bulk' | 'control') =>
    connect({
      servers: options.servers,
      access: options.access,
      name: `causeway ${options.workerId} ${kind}`,
      connectDeadlineMs: options.connectDeadlineMs ?? 30_000,
      signal: options.signal,
      onWaiting: (message) => log.warn({ connection: kind }, message),
      onStatus: (status, detail) => {
        if (status === 'error') return log.warn({ connection: kind }, `NATS: ${detail}`);
        log.warn({ connection: kind, server: detail }, status === 'up' ? 'NATS is back' : 'the NATS connection is down');
        changed(status);
      },
    });
  const bulk = await open('bulk');
  const control = await open('control').catch(async (error: unknown) => {
    await bulk[Symbol.asyncDispose]();
    throw error;
  });
  return { bulk, control };
}
