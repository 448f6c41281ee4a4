/** A worker's way to expert shards, with its metrics. */
import { ExpertClient, expertFingerprint } from '@causeway/experts';
import { ExpertView, shardLoads } from '@causeway/experts/placing';
import type { MainContext } from '@causeway/lifecycle';
import { expertShape } from '@causeway/models';
import type { RedisConnection } from '@causeway/registry';
import { createChannelPool } from '@causeway/rpc';
import { createMetrics, type Logger } from '@causeway/telemetry';
import type { Registry } from 'prom-client';
import type { WorkerConfig } from './config.ts';
import { ExpertSeries } from './expert-series.ts';
import type { EngineRecipe } from './load-engine.ts';

const KEYS = [
  'expertTokens',
  'expertLoadImbalance',
  'expertLayerSeconds',
  'expertFrames',
  'expertBytes',
  'expertShardsConnected',
  'expertPlacementEpoch',
] as const;

/** Connects an engine's routed experts to the shards registered in Redis; they are there once `ExpertClient.ready` resolves. */
export function expertConnector(o: {
  config: WorkerConfig;
  redis: RedisConnection;
  registry: Registry;
  log: Logger;
  ctx: MainContext;
}): NonNullable<EngineRecipe['connectExperts']> {
  const { config, redis, log, ctx } = o;
  return async ({ runtime, checkpoint, model }) => {
    if (checkpoint.config.moe === undefined) {
      log.info({ model }, 'the model has no experts; none are looked for elsewhere');
      return undefined;
    }
    await using stack = new AsyncDisposableStack();
    const shape = expertShape(checkpoint);
    const onCrash = (error: unknown): void => ctx.crash(error, 'following the expert placement failed');
    const view = stack.use(new ExpertView({ redis, model, log, onCrash }));
    const channels = stack.use(createChannelPool());
    const metrics = createMetrics(KEYS, { registry: o.registry });
    const totals = new Map(shape.layers.map((layer) => [layer, new Float64Array(shape.experts)]));
    const client = await ExpertClient.create({
      runtime,
      shape,
      model,
      fingerprint: expertFingerprint(checkpoint, shape, config.precision),
      workerId: config.workerId,
      mode: config.expertMode,
      rowType: config.expertRows,
      waitMs: config.expertWaitMs,
      redis,
      view,
      channels,
      log,
      onCrash,
      onTokens: (layer, expert, tokens) => {
        const counts = totals.get(layer);
        if (counts !== undefined) counts[expert] = (counts[expert] ?? 0) + tokens;
      },
      onLayer: ({ packMs, networkMs, queueMs, computeMs, combineMs }) => {
        const parts = { pack: packMs, network: networkMs, queue: queueMs, compute: computeMs, combine: combineMs };
        for (const [part, ms] of Object.entries(parts)) metrics.expertLayerSeconds.observe({ part }, ms / 1000);
      },
    });
    // The client's own from here on.
    stack.move();
    exportClient(metrics, client, totals);
    return client;
  };
}

type ClientMetrics = ReturnType<typeof createMetrics<(typeof KEYS)[number]>>;

/** Brings counters and gauges up to date at every scrape. */
function exportClient(metrics: ClientMetrics, client: ExpertClient, totals: ReadonlyMap<number, Float64Array>): void {
  const counted = new Map<string, number>();
  const series = new Map([...totals].map(([layer, counts]) => [layer, new ExpertSeries(counts.length)]));
  const raise = (key: string, total: number, inc: (by: number) => void): void => {
    inc(total - (counted.get(key) ?? 0));
    counted.set(key, total);
  };
  const update = (): void => {
    const { counters, links } = client;
    const { frames, retries, hedgesSent, hedgesWon, staleFrames, bytesSent, bytesReceived } = counters;
    const kinds = {
      first: frames - retries - hedgesSent,
      retry: retries,
      hedge_won: hedgesWon,
      hedge_lost: hedgesSent - hedgesWon,
    };
    for (const [kind, total] of Object.entries({ ...kinds, stale: staleFrames })) {
      raise(kind, Math.max(total, counted.get(kind) ?? 0), (by) => metrics.expertFrames.inc({ kind }, by));
    }
    raise('sent', bytesSent, (by) => metrics.expertBytes.inc({ direction: 'sent' }, by));
    raise('received', bytesReceived, (by) => metrics.expertBytes.inc({ direction: 'received' }, by));
    metrics.expertShardsConnected.set(links.all.filter(({ open }) => open).length);
    metrics.expertPlacementEpoch.set(links.placement?.epoch ?? 0);
    for (const [layer, counts] of totals) {
      series.get(layer)?.raise(counts, (expert, by) => metrics.expertTokens.inc({ layer: String(layer), expert }, by));
    }
    const { placement } = links;
    if (placement === undefined) return;
    const loads = client.loads.recent;
    for (const layer of totals.keys()) {
      const only = { ...placement, layers: { [layer]: placement.layers[layer] ?? [] } };
      metrics.expertLoadImbalance.set({ layer: String(layer) }, shardLoads(only, loads).maxOverMean);
    }
  };
  Object.assign(metrics.expertTokens, { collect: update });
}
