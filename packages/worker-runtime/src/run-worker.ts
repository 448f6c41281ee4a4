import { randomUUID } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { hostPort } from '@causeway/config';
import { fail } from '@causeway/errors';
import { armFailpoints, parseFailpoints } from '@causeway/failpoints';
import { storageName } from '@causeway/kv';
import { KvEndpoint } from '@causeway/kv-transport';
import type { MainContext } from '@causeway/lifecycle';
import { connectRedis, type RedisConnection, RegistryWriter, type WorkerRecord, type WorkerState } from '@causeway/registry';
import { createRpcServer, type RpcService } from '@causeway/rpc';
import { createLogger, createObservabilityServer, type Logger, monitorEventLoop, startTracing } from '@causeway/telemetry';
import { Registry } from 'prom-client';
import { advertisedHost, checkReachable } from './advertise.ts';
import { registeredOrder } from './compute-order.ts';
import type { WorkerConfig } from './config.ts';
import { type EngineRecipe, loadEngine, type LoadedEngine } from './load-engine.ts';
import { inspectService } from './inspect.ts';
import { LiveKv } from './live-kv.ts';
import { createWorkerMetrics, engineHooks, exportStats } from './metrics.ts';
import { exportNatsServer } from './nats-server-stats.ts';
import { RateMeter } from './rate-meter.ts';
import { registeredLinks } from './registered-links.ts';
import { expertConnector } from './remote-experts.ts';
import { keyOfLayerZero } from './tamper.ts';
import { warmUp, warmUpTransport } from './warm-up.ts';
import type { Worker, WorkerRole } from './worker.ts';

/** How often load and rates are reported when nothing else changes them. */
const REPORT_MS = 250;

/**
 * A worker process from start to stop: logs and metrics -> engine -> NATS -> gRPC -> registration -> ready; then the drain.
 * `services` makes the role's handlers. Call it inside `runMain`.
 */
export async function runWorker(
  ctx: MainContext,
  config: WorkerConfig,
  role: WorkerRole,
  services: (worker: Worker) => readonly RpcService[],
): Promise<void> {
  const incarnation = randomUUID();
  const log = createLogger({ service: role, level: config.logLevel, fields: { workerId: config.workerId, incarnation } });
  ctx.configure({ drainMs: config.drainMs, log });
  // A bad spec is told at once; it is armed after the warm-up, whose frames are not a request's.
  if (config.failpoints !== undefined) parseFailpoints(config.failpoints);

  if (config.kvWire !== 'auto' && config.kvLossy !== 'on') {
    const kind = `KV can't be sent in ${config.kvWire} (CAUSEWAY_KV_WIRE), which rounds it`;
    fail('invalid_argument', 'bad_config', `${kind}, where CAUSEWAY_KV_LOSSY is off: set it to on, or CAUSEWAY_KV_WIRE to auto`);
  }

  const host = advertisedHost(config, networkInterfaces());

  const registry = new Registry();
  const metrics = createWorkerMetrics(registry);
  /** Of the weights' bytes; undefined: all of them are there. */
  const loading: { percent?: number | undefined } = { percent: 0 };
  /** Filled once NATS is reached; /readyz answers before that. */
  const transport: { endpoint?: KvEndpoint } = {};
  await using observability = createObservabilityServer({
    host: config.host,
    port: config.observabilityPort,
    registry,
    lifecycle: ctx.lifecycle,
    ready: () => [
      ...(loading.percent === undefined ? [] : [`the model is being loaded: ${loading.percent} %`]),
      ...(transport.endpoint?.connected === false ? ['NATS is not connected'] : []),
    ],
  });
  await observability.listen();
  log.info(
    { port: observability.port, model: config.modelPath, chip: config.chip, threads: config.threads },
    'loading the model',
  );

  await using traces = await startTracing({
    endpoint: config.otlpTracesEndpoint,
    ratio: config.traceRatio,
    service: role,
    instance: config.workerId,
    log,
  });
  const rates = new RateMeter();
  const toRedis = (): Promise<RedisConnection> =>
    connectRedis({
      url: config.redisUrl,
      namespace: config.namespace,
      deadlineMs: config.startupDeadlineMs,
      signal: ctx.lifecycle.drainSignal,
      log,
    });
  // Experts elsewhere are found in Redis; otherwise a worker needs it only to be found itself.
  await using early = config.experts === 'remote' ? await toRedis() : undefined;
  const connectExperts = early === undefined ? undefined : expertConnector({ config, redis: early, registry, log, ctx });
  const hooks = (name: string) => ({
    ...engineHooks(metrics, name, (err) => log.error({ err }, 'engine error')),
    onConstraintThreadLost: (err: unknown) => log.warn({ err }, 'the thread that holds answers to formats is replaced'),
  });
  await using loaded = await loadConfiguredEngine(
    ctx,
    config,
    role,
    log,
    connectExperts,
    hooks,
    (percent) => (loading.percent = percent),
  );
  loading.percent = undefined;
  const { engine, info, pool, emulated, maxContext, maxSequences, shrunk, weightBytes } = loaded;
  await loaded.experts?.ready(config.startupDeadlineMs, ctx.lifecycle.drainSignal);
  const { storage } = info.descriptor;
  const attention = storage.dtype === 'f32' ? 'executed' : 'rounded';
  metrics.kvStorage.set({ chip: config.chip, emulated: String(emulated), storage: storageName(storage), attention }, 1);
  if (shrunk !== undefined) log.warn({ maxSequences, maxContext }, shrunk);
  await warmUp(engine, role, maxContext, ctx.lifecycle.drainSignal);
  const before = engine.stats();
  log.info(
    {
      model: info.name,
      architecture: info.architecture,
      storage: storageName(info.descriptor.storage),
      emulated: loaded.emulated,
      pages: pool.totalPages,
      maxContext,
      maxSequences,
      weightBytes,
    },
    'model loaded; connecting to NATS and Redis',
  );

  await using kv = await KvEndpoint.connect({
    servers: config.natsUrl,
    access: { user: config.natsUser, password: config.natsPassword, credsFile: config.natsCreds, caFile: config.natsCa },
    silenceMs: config.kvSilenceMs,
    workerId: config.workerId,
    incarnation,
    pool,
    fingerprint: info.fingerprint,
    chip: config.chip,
    codec: config.kvCodec,
    lossy: config.kvLossy === 'on',
    rounded: config.kvWire === 'auto' ? undefined : config.kvWire,
    log,
    connectDeadlineMs: config.startupDeadlineMs,
    signal: ctx.lifecycle.drainSignal,
    ...(config.kvRecord === undefined ? {} : { recordFrames: config.kvRecord }),
    ...(config.kvTamper === 'off' ? {} : { tamper: keyOfLayerZero(info.descriptor) }),
  });
  transport.endpoint = kv;
  await warmUpTransport(engine, kv, ctx.lifecycle.drainSignal);
  armConfiguredFailpoints(config, log);
  using _loop = monitorEventLoop(registry, {
    watchSections: config.watchSections,
    onLong: (what) => log.warn(what, 'the event loop was busy for too long'),
  });
  exportStats(metrics, info.name, before, () => ({
    engine: engine.stats(),
    transport: kv.counters,
    connected: kv.connected,
    open: kv.open,
  }));

  const worker: Worker = {
    role,
    config,
    info,
    maxContext,
    engine,
    pool,
    endpoint: kv,
    live: new LiveKv(),
    lifecycle: ctx.lifecycle,
    log,
    metrics,
    traces,
    forceSignal: ctx.forceSignal,
  };
  await using server = createRpcServer({
    host: config.host,
    port: config.rpcPort,
    services: [...services(worker), inspectService(worker)],
    log,
  });
  const rpcPort = await server.listen();

  await using late = early === undefined ? await toRedis() : undefined;
  const redis = (early ?? late) as RedisConnection;
  await using _natsServer =
    config.natsMonitoringUrl === undefined
      ? undefined
      : await exportNatsServer(metrics, { url: config.natsMonitoringUrl, redis, workerId: config.workerId, log });
  // Both planes are proved before anybody is told of this worker: KV by the warm-up over NATS, control here.
  await checkReachable('gRPC', host, rpcPort);
  await checkReachable('/metrics', host, observability.port);
  const state = (): WorkerState => ({
    load: pickLoad(worker),
    rates: rates.update(engine.stats()),
    ...registeredLinks(kv.links),
    draining: ctx.lifecycle.state === 'draining',
  });
  const record: WorkerRecord = {
    version: 1,
    id: config.workerId,
    incarnation,
    role,
    model: info.name,
    architecture: info.architecture,
    contextLength: maxContext,
    vocabSize: info.vocabSize,
    eosTokenIds: [...info.eosTokenIds],
    chip: config.chip,
    emulated: loaded.emulated,
    kvLossy: config.kvLossy === 'on',
    fingerprint: info.fingerprint,
    descriptor: { ...info.descriptor, layers: [...info.descriptor.layers] },
    address: hostPort(host, rpcPort),
    observability: hostPort(host, observability.port),
    capacity: {
      totalPages: pool.totalPages,
      blockTokens: info.descriptor.storage.blockTokens,
      maxSequences,
    },
    ...registeredOrder(config, role, maxContext),
    startedAt: Date.now(),
    ...state(),
  };
  await using registration = new RegistryWriter({
    redis,
    record,
    leaseMs: config.leaseMs,
    log,
    onCrash: (error) => ctx.crash(error, 'the registry heartbeat failed'),
  });
  await registration.registered;
  using _report = reportLoad(registration, state);

  server.setServing(true);
  ctx.lifecycle.ready();
  log.info({ rpc: record.address, observability: record.observability }, 'ready');

  await ctx.lifecycle.drainRequested();
  // Routers stop choosing this worker at once; what runs ends by itself, or by force when the drain time is over.
  registration.update(state());
  await server.drain(ctx.forceSignal);
}

function armConfiguredFailpoints(config: WorkerConfig, log: Logger): void {
  if (config.failpoints === undefined) return;
  armFailpoints(config.failpoints, {
    ...(config.failpointDir === undefined ? {} : { dir: config.failpointDir }),
    onAct: (point, detail) => log.warn({ failpoint: point, detail }, 'failpoint'),
  });
}

async function loadConfiguredEngine(
  ctx: MainContext,
  config: WorkerConfig,
  role: WorkerRole,
  log: Logger,
  connectExperts: EngineRecipe['connectExperts'],
  hooks: (modelName: string) => ReturnType<typeof engineHooks>,
  onPercent: (percent: number) => void,
): Promise<LoadedEngine> {
  let reported = 0;
  const debug = config.debugChecks === 'on';
  return loadEngine({
    ...config,
    // A prefill worker never decodes: one idle row is all it needs.
    maxSequences: role === 'prefill' ? 1 : config.maxSequences,
    layerGroups: role === 'prefill' ? config.layerGroups : 1,
    debug: { fillNaN: debug, checkPages: debug },
    hooks,
    connectExperts,
    signal: ctx.lifecycle.drainSignal,
    onProgress: (fraction) => {
      onPercent(Math.round(fraction * 100));
      if (fraction - reported < 0.1 && fraction < 1) return;
      reported = fraction;
      log.info({ percent: Math.round(fraction * 100) }, 'loading weights');
    },
  });
}

function pickLoad({ engine }: Worker): WorkerState['load'] {
  const { running, waiting, queuedPromptTokens, freePages } = engine.stats();
  return { running, waiting, queuedPromptTokens, freePages };
}

/** Reports the load now and then; the writer bounds how often it is written. */
function reportLoad(registration: RegistryWriter, state: () => WorkerState): Disposable {
  let last = '';
  const timer = setInterval(() => {
    const now = state();
    const text = JSON.stringify(now);
    if (text === last) return;
    last = text;
    registration.update(now);
  }, REPORT_MS).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
