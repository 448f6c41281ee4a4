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
import { createHttpServer, warmUp } from './http/server.ts';
import { createRequestMetrics } from './request-metrics.ts';
import type { RouterParts } from './router-parts.ts';
import type { RouterTokenizer } from './tokenizer/tokenizer.ts';
import { servedContext, type WorkerDirectory } from './workers/directory.ts';
import { Dispatcher } from './workers/dispatcher.ts';

export interface RouterOptions {
  readonly config: RouterConfig;
  /** Who may ask, over both APIs. */
  readonly keys: ApiKeys;
  readonly model: string;
  readonly tokenizer: RouterTokenizer;
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
  const { config, directory, lifecycle, log, model, forceSignal } = options;
  const metrics = createRequestMetrics(options.registry, model);
  const channels = createChannelPool();
  const admission = new Admission(lifecycle, config.maxInFlight);
  const dispatcher: Dispatcher = new Dispatcher(directory, {
    maxQueue: config.maxQueue,
    onChange: (load) => metrics.load(load),
  });
  const parts: RouterParts = {
    model,
    config,
    tokenizer: options.tokenizer,
    output: outputFormat(options.tokenizer.templateFacts()?.text, config),
    directory,
    dispatcher,
    channels,
    admission,
    metrics,
    traces: options.traces,
  };
  const notReady = (): readonly string[] => [
    ...(lifecycle.state === 'ready' ? [] : [`the router is ${lifecycle.state}`]),
    ...(servedContext(directory.workers(), model) === undefined ? [`no decode worker serves ${model}`] : []),
  ];
  const http = createHttpServer({
    router: parts,
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
    services: [inferenceService(parts, options.keys, log, forceSignal)],
    maxRequestBytes: config.maxBodyBytes,
    log,
  });
  const updateServing = (): void => grpc.setServing(notReady().length === 0);
  const subscriptions = [
    directory.onChange(() => {
      closeUnused(channels, directory, dispatcher);
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
      dispatcher[Symbol.dispose]();
      await Promise.all([http.close(), grpc[Symbol.asyncDispose]()]);
      channels[Symbol.dispose]();
    },
  };
}

/** Connections to workers that are gone and serve no attempt any more. */
function closeUnused(channels: ChannelPool, directory: WorkerDirectory, dispatcher: Dispatcher): void {
  const used = new Set([...directory.workers().map((worker) => worker.address), ...dispatcher.addresses]);
  channels.keepOnly(used);
}
