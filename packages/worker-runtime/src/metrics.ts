import type { EngineHooks, EngineStats } from '@causeway/engine';
import type { KvEndpoint, TransportCounters } from '@causeway/kv-transport';
import { createMetrics, type MetricKey, type Metrics } from '@causeway/telemetry';
import type { Counter, Registry } from 'prom-client';

const KEYS = [
  'requestsRunning',
  'requestsWaiting',
  'kvCacheUsage',
  'promptTokens',
  'generationTokens',
  'preemptions',
  'iterationTokens',
  'kvTransferBytes',
  'kvTransferRawBytes',
  'kvTransferSeconds',
  'kvTransferTailSeconds',
  'kvConvertSeconds',
  'kvChecksumFailures',
  'kvStaleFrames',
  'kvResentParts',
  'kvPages',
  'kvStorage',
  'natsConnected',
  'kvOpenTransfers',
  'kvCreditBytes',
  'natsServerBytes',
  'natsServerMessages',
  'natsServerSlowConsumers',
  'natsServerPending',
  'natsServerConnections',
  'prefillTokens',
  'queuedPromptTokens',
  'decodeRuns',
  'decodeBatchSize',
  'decodeStepSeconds',
  'cancelSeconds',
] as const satisfies readonly MetricKey[];

export type WorkerMetrics = Metrics<(typeof KEYS)[number]>;

/** Makes a worker's instruments on its registry. */
export function createWorkerMetrics(registry: Registry): WorkerMetrics {
  return createMetrics(KEYS, { registry, nodeMetrics: true });
}

/** Hooks that feed the engine's steps into the histograms. */
export function engineHooks(metrics: WorkerMetrics, modelName: string, onError: (error: unknown) => void): EngineHooks {
  const labels = { model_name: modelName };
  return {
    onStep: ({ batch, ms }) => {
      metrics.decodeBatchSize.observe(batch);
      metrics.decodeStepSeconds.observe(ms / 1000);
      metrics.iterationTokens.observe(labels, batch);
    },
    onPrefillChunk: ({ tokens }) => metrics.iterationTokens.observe(labels, tokens),
    onError,
  };
}

/** Brings gauges and counters up to date with the engine and the transport at every scrape. What the engine did `before` doesn't count. */
export function exportStats(
  metrics: WorkerMetrics,
  modelName: string,
  before: EngineStats,
  read: () => { engine: EngineStats; transport: Readonly<TransportCounters>; connected: boolean; open: KvEndpoint['open'] },
): void {
  const labels = { model_name: modelName };
  const rising = new Map<object, number>();
  const raise = (counter: { inc(by: number): void }, key: object, total: number): void => {
    const counted = rising.get(key) ?? 0;
    if (total > counted) counter.inc(total - counted);
    rising.set(key, Math.max(total, counted));
  };
  const labelled = (counter: Counter<'model_name'>) => ({ inc: (by: number) => counter.inc(labels, by) });
  // A counter that appears with its first event has no rate for it.
  for (const counter of [metrics.promptTokens, metrics.generationTokens, metrics.preemptions]) counter.inc(labels, 0);
  const update = (): void => {
    const { engine, transport, connected, open } = read();
    metrics.requestsRunning.set(labels, engine.running);
    metrics.requestsWaiting.set(labels, engine.waiting);
    metrics.queuedPromptTokens.set(engine.queuedPromptTokens);
    metrics.kvCacheUsage.set(labels, engine.totalPages === 0 ? 0 : 1 - engine.freePages / engine.totalPages);
    metrics.kvPages.set({ state: 'free' }, engine.freePages);
    metrics.kvPages.set({ state: 'used' }, engine.totalPages - engine.freePages);
    metrics.natsConnected.set({ connection: 'kv' }, connected ? 1 : 0);
    metrics.kvOpenTransfers.set({ direction: 'in' }, open.inbound);
    metrics.kvOpenTransfers.set({ direction: 'out' }, open.outbound);
    metrics.kvCreditBytes.set(open.creditBytes);
    raise(labelled(metrics.promptTokens), metrics.promptTokens, engine.prefillTokens - before.prefillTokens);
    raise(labelled(metrics.generationTokens), metrics.generationTokens, engine.decodedTokens - before.decodedTokens);
    raise(labelled(metrics.preemptions), metrics.preemptions, engine.preemptions - before.preemptions);
    raise(metrics.prefillTokens, metrics.prefillTokens, engine.prefillTokens - before.prefillTokens);
    raise(metrics.decodeRuns, metrics.decodeRuns, engine.decodeRuns - before.decodeRuns);
    raise(metrics.kvChecksumFailures, metrics.kvChecksumFailures, transport.checksumFailures);
    raise(metrics.kvStaleFrames, metrics.kvStaleFrames, transport.staleFrames + transport.unknownTransfers);
    raise(metrics.kvResentParts, metrics.kvResentParts, transport.partsResent);
  };
  const first = metrics.requestsRunning as typeof metrics.requestsRunning & { collect?: () => void };
  first.collect = update;
}
