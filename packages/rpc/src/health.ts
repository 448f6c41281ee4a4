import { fail } from '@causeway/errors';
import { healthV1 } from '@causeway/proto';
import type { ServiceImplementation } from 'nice-grpc';
import type { RpcCallExtension } from './server-call.ts';

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = healthV1.HealthCheckResponse_ServingStatus;

export interface Health {
  readonly implementation: ServiceImplementation<typeof healthV1.HealthDefinition, RpcCallExtension>;
  readonly setServing: (serving: boolean) => void;
}

/**
 * grpc.health.v1 (https://github.com/grpc/grpc/blob/master/doc/health-checking.md): one state for the server ('') and all its services.
 * Watchers end, after they were told NOT_SERVING, when `ending` aborts.
 */
export function createHealth(services: readonly string[], ending: AbortSignal): Health {
  const known = new Set(['', ...services]);
  const changed = new Set<() => void>();
  let serving = false;

  const status = (service: string) => (known.has(service) ? (serving ? SERVING : NOT_SERVING) : SERVICE_UNKNOWN);

  const nextChange = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const done = (): void => {
        changed.delete(done);
        signal.removeEventListener('abort', done);
        ending.removeEventListener('abort', done);
        resolve();
      };
      changed.add(done);
      signal.addEventListener('abort', done, { once: true });
      ending.addEventListener('abort', done, { once: true });
    });

  return {
    setServing: (value) => {
      if (serving === value) return;
      serving = value;
      for (const wake of changed) wake();
    },
    implementation: {
      check: async (request) => {
        if (!known.has(request.service))
          fail('not_found', 'not_found', `service ${JSON.stringify(request.service.slice(0, 200))} is not served here`);
        return { status: status(request.service) };
      },
      watch: async function* (request, context) {
        let last: healthV1.HealthCheckResponse_ServingStatus | undefined;
        for (;;) {
          const now = status(request.service);
          if (now !== last) yield { status: now };
          last = now;
          if (context.signal.aborted || ending.aborted) return;
          if (status(request.service) === last) await nextChange(context.signal);
        }
      },
    },
  };
}
