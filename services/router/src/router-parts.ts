import type { ChannelPool } from '@causeway/rpc';
import type { TraceBackend } from '@causeway/telemetry';
import type { Admission } from './admission.ts';
import type { OutputFormat } from './answer/output-format.ts';
import type { RouterConfig } from './config.ts';
import type { RequestMetrics } from './request-metrics.ts';
import type { RouterTokenizer } from './tokenizer/tokenizer.ts';
import type { WorkerDirectory } from './workers/directory.ts';
import type { Dispatcher } from './workers/dispatcher.ts';

/** Settings that the request path reads. */
export type RequestSettings = Pick<
  RouterConfig,
  | 'placement'
  | 'localPrefillTokens'
  | 'recovery'
  | 'queueWaitMs'
  | 'requestTimeoutMs'
  | 'defaultMaxTokens'
  | 'maxAttempts'
  | 'stallMs'
  | 'hangMs'
  | 'recoveryWaitMs'
>;

/** What requests are served with. Everything in it outlives every request. */
export interface RouterParts {
  /** Name of the model that is served. */
  readonly model: string;
  readonly config: RequestSettings;
  readonly tokenizer: RouterTokenizer;
  /** How the model marks calls and reasoning. */
  readonly output: OutputFormat;
  readonly directory: WorkerDirectory;
  readonly dispatcher: Dispatcher;
  readonly channels: ChannelPool;
  readonly admission: Admission;
  readonly metrics: RequestMetrics;
  readonly traces: TraceBackend;
}
