import { fail } from '@causeway/errors';
import { healthV1, reflectionV1, reflectionV1Alpha } from '@causeway/proto';
import { ServerCredentials } from '@grpc/grpc-js';
import { type CompatServiceDefinition, createServer, type Server, type ServiceImplementation } from 'nice-grpc';
import { createHealth } from './health.ts';
import { type TransportOptions, transportOptions } from './limits.ts';
import { createReflection } from './reflection.ts';
import { ActiveCalls, deadlineInterceptor, type RpcCallExtension, type RpcLogger, serverMiddleware } from './server-call.ts';

/** A service to be served: its generated definition with its handlers. */
export interface RpcService {
  readonly fullName: string;
  readonly addTo: (server: Server<RpcCallExtension>) => void;
}

/** Binds handlers to a generated definition (`workerV1.DecodeDefinition`), type-checked. Streaming handlers are async generators. */
export function rpcService<S extends CompatServiceDefinition & { readonly fullName: string }>(
  definition: S,
  implementation: ServiceImplementation<S, RpcCallExtension>,
): RpcService {
  return { fullName: definition.fullName, addTo: (server) => server.add(definition, implementation) };
}

export interface RpcServerOptions extends TransportOptions {
  host: string;
  /** 0: any free port. */
  port: number;
  services: readonly RpcService[];
  /** grpc.reflection v1 and v1alpha; default true. */
  reflection?: boolean;
  /** grpc.health.v1; default true. */
  health?: boolean;
  log?: RpcLogger;
  /** Largest request message, bytes; larger ones are refused with RESOURCE_EXHAUSTED. Default: `maxMessageBytes`. */
  maxRequestBytes?: number;
  /** Concurrent calls per connection; default 4096. */
  maxConcurrentCalls?: number;
}

export interface RpcServer extends AsyncDisposable {
  /** Opens the port; gives the port in use. Throws ServiceError `unavailable` when it cannot. */
  listen(): Promise<number>;
  /** 0 before `listen`. */
  readonly port: number;
  /** Handlers that run now (health and reflection included). */
  readonly activeCalls: number;
  /** What grpc.health.v1 answers for the server and each service; false at first. */
  setServing(serving: boolean): void;
  /** Health says NOT_SERVING, no new call is taken, running ones end by themselves, or at once when the signal aborts. Idempotent. */
  drain(force?: AbortSignal): Promise<void>;
}

/** How long disposal waits for handlers whose calls were cancelled. */
const HANDLER_GRACE_MS = 2000;

/** Makes a gRPC server; nothing is opened before `listen`. Disposing ends running calls. */
export function createRpcServer(options: RpcServerOptions): RpcServer {
  const active = new ActiveCalls();
  const draining = new AbortController();
  const names = options.services.map((service) => service.fullName);
  const health = createHealth(names, draining.signal);
  const server = createServer({
    ...transportOptions(options),
    ...(options.maxRequestBytes === undefined ? {} : { 'grpc.max_receive_message_length': options.maxRequestBytes }),
    'grpc.max_concurrent_streams': options.maxConcurrentCalls ?? 4096,
    'grpc.so_reuseport': 0,
    interceptors: [deadlineInterceptor],
  }).use(serverMiddleware(active, draining.signal, options.log));
  for (const service of options.services) service.addTo(server);
  if (options.health !== false) server.add(healthV1.HealthDefinition, health.implementation);
  if (options.reflection !== false) {
    const served = [...names, ...(options.health === false ? [] : [healthV1.HealthDefinition.fullName])];
    const reflection = createReflection(served, draining.signal);
    server.add(reflectionV1.ServerReflectionDefinition, { serverReflectionInfo: reflection });
    server.add(reflectionV1Alpha.ServerReflectionDefinition, { serverReflectionInfo: reflection });
  }

  let port = 0;
  let listening = false;
  let drained: Promise<void> | undefined;
  const forced = Promise.withResolvers<void>();

  const drain = (force?: AbortSignal): Promise<void> => {
    health.setServing(false);
    draining.abort();
    if (!listening) return Promise.resolve();
    // Connections are closed once no call runs: grpc-js takes a closing one for dead when its next probe cannot be sent, at both ends.
    drained ??= Promise.race([active.idle(), forced.promise]).then(() => server.shutdown());
    const onForce = (): void => {
      server.forceShutdown();
      forced.resolve();
    };
    if (force?.aborted === true) onForce();
    else force?.addEventListener('abort', onForce, { once: true });
    return drained.finally(() => force?.removeEventListener('abort', onForce));
  };

  return {
    get port() {
      return port;
    },
    get activeCalls() {
      return active.count;
    },
    setServing: health.setServing,
    listen: async () => {
      const address = `${options.host.includes(':') ? `[${options.host}]` : options.host}:${options.port}`;
      try {
        port = await server.listen(address, ServerCredentials.createInsecure());
      } catch (error) {
        fail(
          'unavailable',
          'dependency_unavailable',
          `cannot serve gRPC on ${address}: ${(error as Error).message}; choose another port`,
          {
            cause: error,
          },
        );
      }
      listening = true;
      return port;
    },
    drain,
    [Symbol.asyncDispose]: async () => {
      await drain(AbortSignal.abort());
      const grace = Promise.withResolvers<void>();
      const timer = setTimeout(grace.resolve, HANDLER_GRACE_MS);
      await Promise.race([active.idle(), grace.promise]);
      clearTimeout(timer);
    },
  };
}
