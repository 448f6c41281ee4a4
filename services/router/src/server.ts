import { hostPort } from '@causeway/config';
import type { Lifecycle } from '@causeway/lifecycle';
import { type ChannelPool, createChannelPool, createRpcServer } from '@causeway/rpc';
import type { Logger, TraceBackend } from '@causeway/telemetry';
import type { Registry } from 'prom-client';
import { Admission } from './admission.ts';
import { outputFormat } from './answer/output-format.ts';
import type { ApiKeys } from './api-keys.ts';
import type { RouterConfig } from './config.ts';
import { inferenceService } from './handlers/inference.ts';
import { modelRouters } from './handlers/model-routers.ts';
import { createHttpServer, warmUp } from './http/server.ts';
import { createRequestMetrics } from './request-metrics.ts';
import type { RouterParts } from './router-parts.ts';
import type { RouterTokenizer } from './tokenizer/tokenizer.ts';
import { servedContext, type WorkerDirectory } from './workers/directory.ts';
import { Dispatcher } from './workers/dispatcher.ts';

/** A model by the name that clients use. */
export interface RoutedModel {
  readonly name: string;
  readonly tokenizer: RouterTokenizer;
}

export interface RouterOptions {
  readonly config: RouterConfig;
  /** Who may ask, over both APIs. */
  readonly keys: ApiKeys;
  /** At least one; no two of the same name. */
  readonly models: readonly RoutedModel[];
  readonly directory: WorkerDirectory;
  readonly lifecycle: Lifecycle;
  readonly registry: Registry;
  readonly traces: TraceBackend;
  readonly log: Logger;
  /** Aborts when the drain time is over. */
  readonly forceSignal: AbortSignal;
}

export interface Router extends AsyncDisposable {
  /** Opens both ports; gives `host:port` of each. */
  listen(): Promise<{ http: string; grpc: string }>;
  /** Lets running requests end, until the drain time is over. */
  drain(): Promise<void>;
  /** What keeps the router from serving, for a person; empty: ready. */
  readonly notReady: () => readonly string[];
}

/** Wires the router: queue, channels, HTTP and gRPC. Nothing is opened before `listen`. */
export function createRouter(options: RouterOptions): Router {
  const { config, directory, lifecycle, log, models, forceSignal } = options;
  const metricsOf = createRequestMetrics(options.registry);
  const channels = createChannelPool();
  const admission = new Admission(lifecycle, config.maxInFlight);
  const routers = modelRouters(
    models.map(({ name: model, tokenizer }): RouterParts => {
      const metrics = metricsOf(model);
      // A queue for each: a model that everybody asks for keeps nobody from another.
      const dispatcher = new Dispatcher(directory, { maxQueue: config.maxQueue, onChange: (load) => metrics.load(load) });
      const output = outputFormat(tokenizer.templateFacts()?.text, config);
      return { model, config, tokenizer, output, directory, dispatcher, channels, admission, metrics, traces: options.traces };
    }),
  );
  const unserved = unservedModels(models, directory);
  const notReady = (): readonly string[] => [
    ...(lifecycle.state === 'ready' ? [] : [`the router is ${lifecycle.state}`]),
    ...unserved().map((model) => `no decode worker serves ${model}`),
  ];
  const http = createHttpServer({
    routers,
    maxBodyBytes: config.maxBodyBytes,
    keys: options.keys,
    log,
    forceSignal,
    ready: notReady,
    startedAt: Math.floor(Date.now() / 1000),
  });
  const grpc = createRpcServer({
    host: config.host,
    port: config.grpcPort,
    services: [inferenceService(routers, options.keys, log, forceSignal)],
    maxRequestBytes: config.maxBodyBytes,
    log,
  });
  const updateServing = (): void => grpc.setServing(notReady().length === 0);
  const subscriptions = [
    directory.onChange(() => {
      closeUnused(channels, directory, routers.each);
      updateServing();
    }),
    lifecycle.onChange(updateServing),
  ];

  return {
    notReady,
    listen: async () => {
      await warmUp(http);
      await http.listen({ host: config.host, port: config.httpPort });
      const address = http.server.address();
      const httpPort = typeof address === 'object' && address !== null ? address.port : config.httpPort;
      const grpcPort = await grpc.listen();
      updateServing();
      return { http: hostPort(config.host, httpPort), grpc: hostPort(config.host, grpcPort) };
    },
    drain: async () => {
      const forced = Promise.withResolvers<void>();
      if (forceSignal.aborted) forced.resolve();
      else forceSignal.addEventListener('abort', () => forced.resolve(), { once: true });
      await Promise.race([admission.idle(), forced.promise]);
    },
    [Symbol.asyncDispose]: async () => {
      for (const subscription of subscriptions) subscription[Symbol.dispose]();
      for (const { dispatcher } of routers.each) dispatcher[Symbol.dispose]();
      await Promise.all([http.close(), grpc[Symbol.asyncDispose]()]);
      channels[Symbol.dispose]();
    },
  };
}

/**
 * Models that keep a router from being ready because no decode worker serves them: those that it has never seen served, and all when none
 * is served now. One that lost its workers later does not: the others are served.
 */
function unservedModels(models: readonly RoutedModel[], directory: WorkerDirectory): () => readonly string[] {
  const seen = new Set<string>();
  return () => {
    const names = models.map(({ name }) => name);
    const now = names.filter((name) => servedContext(directory.workers(), name) !== undefined);
    for (const name of now) seen.add(name);
    return names.filter((name) => !now.includes(name) && (now.length === 0 || !seen.has(name)));
  };
}

/** Connections to workers that are gone and serve no attempt any more. */
function closeUnused(channels: ChannelPool, directory: WorkerDirectory, routers: readonly RouterParts[]): void {
  const attempted = routers.flatMap(({ dispatcher }) => dispatcher.addresses);
  channels.keepOnly(new Set([...directory.workers().map((worker) => worker.address), ...attempted]));
}
