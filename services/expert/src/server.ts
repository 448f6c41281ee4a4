import { randomUUID } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { hostPort } from '@causeway/config';
import { ShardNode } from '@causeway/experts';
import { type MainContext, sleep } from '@causeway/lifecycle';
import { openCheckpoint } from '@causeway/model-files';
import { Runtime } from '@causeway/ort';
import { connectRedis } from '@causeway/registry';
import { createLogger, createObservabilityServer, type Logger, monitorEventLoop } from '@causeway/telemetry';
import { advertisedHost, checkReachable } from '@causeway/worker-runtime';
import { Registry } from 'prom-client';
import type { ExpertConfig } from './config.ts';
import { createShardMetrics, exportShard } from './shard-metrics.ts';

/**
 * An expert shard from start to stop: checkpoint opened -> gRPC -> registered -> experts of the placement loaded -> ready; then the
 * drain: its experts go elsewhere first, as far as others have room.
 */
export async function runShard(ctx: MainContext, config: ExpertConfig): Promise<void> {
  const incarnation = randomUUID();
  const host = advertisedHost(config, networkInterfaces());
  const log = createLogger({
    service: 'expert',
    level: config.logLevel,
    fields: { workerId: config.workerId, incarnation },
  });
  ctx.configure({ drainMs: config.drainMs, log });
  const registry = new Registry();
  const metrics = createShardMetrics(registry);
  const serving: { node?: Pick<ShardNode, 'missing'> } = {};
  await using observability = createObservabilityServer({
    host: config.host,
    port: config.observabilityPort,
    registry,
    lifecycle: ctx.lifecycle,
    ready: () => serving.node?.missing ?? ['starting'],
  });
  await observability.listen();

  using checkpoint = await openCheckpoint(config.modelPath);
  if (checkpoint.config.moe === undefined) return await idle(ctx, serving, checkpoint.name, log);
  await using runtime = Runtime.create({ threads: config.threads });
  using _loop = monitorEventLoop(registry, {
    watchSections: config.watchSections,
    onLong: (what) => log.warn(what, 'the event loop was busy for too long'),
  });
  await using redis = await connectRedis({
    url: config.redisUrl,
    namespace: config.namespace,
    deadlineMs: config.startupDeadlineMs,
    signal: ctx.lifecycle.drainSignal,
    log,
  });
  await using node = await ShardNode.start({
    id: config.workerId,
    incarnation,
    model: config.modelName ?? checkpoint.name,
    precision: config.precision,
    budgetBytes: config.memoryBytes,
    leaseMs: config.leaseMs,
    runtime,
    checkpoint,
    redis,
    host: config.host,
    port: config.rpcPort,
    advertise: (port) => hostPort(host, port),
    observability: hostPort(host, observability.port),
    checkAddress: async (port) => {
      await checkReachable('gRPC', host, port);
      await checkReachable('/metrics', host, observability.port);
    },
    placing: {
      minCopies: config.copies,
      hotCopies: config.hotCopies,
      expectedShards: config.shards,
      firstWaitMs: config.firstWaitMs,
    },
    hooks: {
      onRun: ({ pairs, queueMs, computeMs }) => {
        metrics.expertShardBatch.observe(pairs);
        metrics.expertShardQueueSeconds.observe(queueMs / 1000);
        metrics.expertShardRunSeconds.observe(computeMs / 1000);
      },
      ...(config.delayMs > 0 ? { beforeRun: () => sleep(config.delayMs) } : {}),
    },
    log,
    onCrash: (error) => ctx.crash(error, 'following the expert placement failed'),
  });
  serving.node = node;
  exportShard(metrics, node, { budgetBytes: config.memoryBytes, copies: config.copies });
  ctx.lifecycle.ready();
  const { address, model } = node.record;
  log.info({ rpc: address, observability: node.record.observability, model, ...node.shape }, 'ready');

  await ctx.lifecycle.drainRequested();
  await node.drain(ctx.forceSignal);
}

/** A dense model has nothing to hold here: the shard is ready, registers nothing and waits for its end. */
async function idle(ctx: MainContext, serving: { node?: Pick<ShardNode, 'missing'> }, model: string, log: Logger): Promise<void> {
  serving.node = { missing: [] };
  ctx.lifecycle.ready();
  log.warn({ model }, 'the model has no experts: this shard does nothing');
  await ctx.lifecycle.drainRequested();
}
