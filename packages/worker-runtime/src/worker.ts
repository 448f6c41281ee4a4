import type { Engine, ModelInfo } from '@causeway/engine';
import { fail } from '@causeway/errors';
import type { PagePool } from '@causeway/kv';
import type { KvEndpoint } from '@causeway/kv-transport';
import type { Lifecycle } from '@causeway/lifecycle';
import type { Logger, TraceBackend } from '@causeway/telemetry';
import type { LiveKv } from './live-kv.ts';
import type { WorkerConfig } from './config.ts';
import type { WorkerMetrics } from './metrics.ts';

export type WorkerRole = 'prefill' | 'decode';

/** What a worker's handlers work with. Everything in it outlives every call. */
export interface Worker {
  readonly role: WorkerRole;
  readonly config: WorkerConfig;
  readonly info: ModelInfo;
  /** Prompt and answer together, in tokens. */
  readonly maxContext: number;
  readonly engine: Engine;
  readonly pool: PagePool;
  readonly endpoint: KvEndpoint;
  /** Prompts whose answers are being written. */
  readonly live: LiveKv;
  readonly lifecycle: Lifecycle;
  readonly log: Logger;
  readonly metrics: WorkerMetrics;
  readonly traces: TraceBackend;
  /** Aborts when the drain time is over. */
  readonly forceSignal: AbortSignal;
}

/**
 * Refuses work that this worker must not take: another model, or a worker that is not serving.
 * @throws ServiceError `unknown_model`, `not_ready` or `draining` (retry: other).
 */
export function assertServes(worker: Worker, model: string): void {
  if (model !== worker.info.name) {
    fail('not_found', 'unknown_model', `worker ${worker.config.workerId} serves ${worker.info.name}, not ${model}`, {
      retry: 'other',
    });
  }
  if (worker.lifecycle.state !== 'ready') {
    const reason = worker.lifecycle.state === 'starting' ? 'not_ready' : 'draining';
    fail('unavailable', reason, `worker ${worker.config.workerId} is ${worker.lifecycle.state}`, { retry: 'other' });
  }
}
