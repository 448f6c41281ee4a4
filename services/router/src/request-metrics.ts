import type { ServiceError } from '@causeway/errors';
import type { FinishReasonName, KvOutcomeName } from '@causeway/openai';
import { createMetrics } from '@causeway/telemetry';
import type { Registry } from 'prom-client';

const KEYS = [
  'timeToFirstToken',
  'interTokenLatency',
  'timePerOutputToken',
  'e2eRequestLatency',
  'requestsRunning',
  'requestsWaiting',
  'promptTokens',
  'generationTokens',
  'requestSuccess',
  'kvOutcome',
  'handoffGap',
  'routerQueueDepth',
  'routerRequests',
  'routerMigrations',
] as const;

/** The router's measurements of requests, in seconds. */
export interface RequestMetrics {
  firstToken(seconds: number): void;
  nextToken(seconds: number): void;
  handoff(seconds: number): void;
  migrated(): void;
  finished(answer: {
    seconds: number;
    /** Of each answer. */
    reasons: readonly FinishReasonName[];
    promptTokens: number;
    tokens: number;
    /** Of each prompt. */
    outcomes: readonly KvOutcomeName[];
  }): void;
  tokenized(): void;
  /** An error is counted once, however many it passes on its way out. */
  failed(error: ServiceError): void;
  load(counts: { waiting: number; running: number }): void;
}

/** Makes the router's instruments in a registry; gives those of each model. */
export function createRequestMetrics(registry: Registry): (model: string) => RequestMetrics {
  const metrics = createMetrics(KEYS, { registry });
  const counted = new WeakSet<ServiceError>();
  /** By model. */
  const queues = new Map<string, number>();
  return (model) => {
    const labels = { model_name: model };
    return {
      firstToken: (seconds) => metrics.timeToFirstToken.observe(labels, seconds),
      nextToken: (seconds) => {
        metrics.interTokenLatency.observe(labels, seconds);
        metrics.timePerOutputToken.observe(labels, seconds);
      },
      handoff: (seconds) => metrics.handoffGap.observe(labels, seconds),
      migrated: () => metrics.routerMigrations.inc(),
      finished: ({ seconds, reasons, promptTokens, tokens, outcomes }) => {
        metrics.e2eRequestLatency.observe(labels, seconds);
        for (const reason of reasons) metrics.requestSuccess.inc({ ...labels, finished_reason: reason });
        metrics.promptTokens.inc(labels, promptTokens);
        metrics.generationTokens.inc(labels, tokens);
        for (const outcome of outcomes) metrics.kvOutcome.inc({ outcome });
        metrics.routerRequests.inc({ outcome: 'ok' });
      },
      tokenized: () => metrics.routerRequests.inc({ outcome: 'ok' }),
      failed: (error) => {
        if (counted.has(error)) return;
        counted.add(error);
        metrics.routerRequests.inc({ outcome: error.reason });
      },
      load: ({ waiting, running }) => {
        queues.set(model, waiting);
        metrics.routerQueueDepth.set([...queues.values()].reduce((sum, count) => sum + count, 0));
        metrics.requestsWaiting.set(labels, waiting);
        metrics.requestsRunning.set(labels, running);
      },
    };
  };
}
