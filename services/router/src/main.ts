import { randomUUID } from 'node:crypto';
import { hostPort, readApiKeys, readConfig } from '@causeway/config';
import { armFailpoints } from '@causeway/failpoints';
import { runMain } from '@causeway/lifecycle';
import { connectRedis, RegistryView } from '@causeway/registry';
import {
  createLogger,
  createMetrics,
  createObservabilityServer,
  type Logger,
  monitorEventLoop,
  startTracing,
} from '@causeway/telemetry';
import { Registry } from 'prom-client';
import { createApiKeys } from './api-keys.ts';
import { checkRouterConfig, configuredModels, type RouterConfig, routerConfig } from './config.ts';
import { openModelTokenizer } from './tokenizer/model-tokenizer.ts';
import { createRouter, type RoutedModel } from './server.ts';
import type { WorkerDirectory } from './workers/directory.ts';

await runMain(process, async (ctx) => {
  const config = readConfig(routerConfig, { argv: ctx.argv, env: ctx.env, check: checkRouterConfig });
  const keys = createApiKeys(readApiKeys({ list: config.apiKeys, file: config.apiKeysFile }));
  const log = createLogger({ service: 'router', level: config.logLevel });
  ctx.configure({ drainMs: config.drainMs, log });
  armConfiguredFailpoints(config, log);

  const registry = new Registry();
  let notReady: () => readonly string[] = () => ['the router is starting'];
  await using observability = createObservabilityServer({
    host: config.host,
    port: config.observabilityPort,
    registry,
    lifecycle: ctx.lifecycle,
    ready: () => notReady(),
  });
  await observability.listen();
  using _loop = monitorEventLoop(registry, {
    watchSections: config.watchSections,
    onLong: (what) => log.warn(what, 'the event loop was busy for too long'),
  });

  await using traces = await startTracing({
    endpoint: config.otlpTracesEndpoint,
    ratio: config.traceRatio,
    service: 'router',
    instance: randomUUID(),
    log,
  });
  await using models = await openModels(config);
  await using redis = await connectRedis({
    url: config.redisUrl,
    namespace: config.namespace,
    deadlineMs: config.startupDeadlineMs,
    name: 'causeway-router',
    signal: ctx.lifecycle.drainSignal,
    log,
  });
  const metrics = createMetrics(['registryWorkers', 'registryConnected', 'registryIgnored'], { registry, nodeMetrics: true });
  await using view = new RegistryView({
    redis,
    log,
    onIgnored: () => metrics.registryIgnored.inc(),
    onCrash: (error) => ctx.crash(error, 'the registry view failed'),
  });
  const exportWorkers = (): void => {
    for (const role of ['prefill', 'decode'] as const) {
      metrics.registryWorkers.set({ role }, view.snapshot.workers.filter((worker) => worker.role === role).length);
    }
  };
  using _workers = view.onChange(exportWorkers);
  using _connected = redis.onChange((connected) => metrics.registryConnected.set(connected ? 1 : 0));
  metrics.registryConnected.set(redis.connected ? 1 : 0);

  await using router = createRouter({
    config,
    keys,
    models: models.list,
    directory: directoryOf(view),
    lifecycle: ctx.lifecycle,
    registry,
    traces,
    log,
    forceSignal: ctx.forceSignal,
  });
  notReady = router.notReady;
  await view.loaded;
  exportWorkers();
  const addresses = await router.listen();
  if (ctx.lifecycle.ready()) {
    log.info(
      { ...addresses, observability: hostPort(config.host, observability.port), models: models.list.map(({ name }) => name) },
      'ready',
    );
    await ctx.lifecycle.drainRequested();
    await router.drain();
  }
});

/** The tokenizer of every model, by the name that clients use. */
async function openModels(config: RouterConfig): Promise<{ list: readonly RoutedModel[] } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const list: RoutedModel[] = [];
  for (const { name, path } of configuredModels(config)) {
    const tokenizer = stack.use(await openModelTokenizer(path, config.tokenizerThreads, config.chatTemplate));
    list.push({ name: name ?? tokenizer.name, tokenizer });
  }
  const owned = stack.move();
  return { list, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function directoryOf(view: RegistryView): WorkerDirectory {
  return {
    workers: () => view.snapshot.workers,
    remove: (worker) => view.remove(worker.id, worker.incarnation),
    onChange: (listener) => view.onChange(() => listener()),
  };
}

function armConfiguredFailpoints(config: RouterConfig, log: Logger): void {
  if (config.failpoints === undefined) return;
  armFailpoints(config.failpoints, {
    ...(config.failpointDir === undefined ? {} : { dir: config.failpointDir }),
    onAct: (point, detail) => log.warn({ ...point, detail }, 'failpoint'),
  });
}
