import type { Logger } from '../logger.ts';
import { NO_TRACES, type TraceBackend } from './trace.ts';

export interface TracingOptions {
  /** OTLP/HTTP endpoint for traces, e.g. `http://collector:4318/v1/traces`; undefined: no traces. */
  endpoint: string | undefined;
  /** Share of requests that are traced when their caller has not decided, from 0 to 1. */
  ratio: number;
  /** `service.name` and `service.instance.id` of the spans. */
  service: string;
  instance: string;
  log: Logger;
}

export type Tracing = TraceBackend & AsyncDisposable;

/** Sends the process's spans to an OTLP endpoint. Without one nothing is loaded. Disposing sends what is left, for at most 2 s. */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  const { endpoint } = options;
  if (endpoint === undefined) return { ...NO_TRACES, [Symbol.asyncDispose]: () => Promise.resolve() };
  const { openTelemetry } = await import('./open-telemetry.ts');
  return openTelemetry({ ...options, endpoint });
}
