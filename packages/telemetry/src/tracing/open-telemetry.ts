import {
  type Context,
  DiagLogLevel,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  diag,
  trace,
} from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider } from '@opentelemetry/sdk-trace';
import type { Attributes, TraceHeaders, TraceSpan } from './trace.ts';
import type { Tracing, TracingOptions } from './tracing.ts';

/** Spans of one message: what becomes JSON on the event loop at once. */
const BATCH_SPANS = 64;
const QUEUED_SPANS = 2048;
const EVERY_MS = 1000;
/** How long a process that ends waits for its last spans to be taken. */
const FLUSH_MS = 2000;

/** Spans over OpenTelemetry's SDK to an OTLP/HTTP endpoint, in batches; what can't be sent is dropped and logged. */
export function openTelemetry({ endpoint, ratio, service, instance, log }: TracingOptions & { endpoint: string }): Tracing {
  const told = (message: string, ...more: unknown[]): void =>
    log.warn({ detail: more.map(String).join(' ') }, `traces: ${message}`);
  diag.setLogger(
    { error: told, warn: told, info: () => undefined, debug: () => undefined, verbose: () => undefined },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const exporter = new OTLPTraceExporter({ url: endpoint, timeoutMillis: FLUSH_MS });
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': `causeway-${service}`, 'service.instance.id': instance }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxExportBatchSize: BATCH_SPANS,
        maxQueueSize: QUEUED_SPANS,
        scheduledDelayMillis: EVERY_MS,
        exportTimeoutMillis: FLUSH_MS,
      }),
    ],
  });
  const tracer = provider.getTracer('causeway');
  const propagator = new W3CTraceContextPropagator();
  return {
    begin: (name, headers, attributes) => {
      const context = propagator.extract(ROOT_CONTEXT, headers, {
        get: (carrier: TraceHeaders, key) => carrier(key as Parameters<TraceHeaders>[0]),
        keys: () => ['traceparent', 'tracestate'],
      });
      const span = tracer.startSpan(name, { kind: SpanKind.SERVER, attributes: given(attributes) }, context);
      return traceSpan(span, context, tracer, propagator);
    },
    [Symbol.asyncDispose]: async () => {
      try {
        await provider.shutdown();
      } catch (error) {
        log.warn({ err: error }, 'traces: the last spans were not taken');
      }
    },
  };
}

function traceSpan(span: Span, parent: Context, tracer: Tracer, propagator: W3CTraceContextPropagator): TraceSpan {
  const context = trace.setSpan(parent, span);
  const begin = (name: string, attributes?: Attributes, startTime?: number): Span =>
    tracer.startSpan(name, { attributes: given(attributes), ...(startTime === undefined ? {} : { startTime }) }, context);
  const end = (): void => {
    if (span.isRecording()) span.end();
  };
  return {
    recording: span.isRecording(),
    child: (name, attributes, startedAt) => traceSpan(begin(name, attributes, startedAt), context, tracer, propagator),
    record: (name, startedAt, endedAt, attributes) => begin(name, attributes, startedAt).end(Math.max(startedAt, endedAt)),
    set: (attributes) => void span.setAttributes(given(attributes)),
    failed: (error) => {
      span.recordException(error);
      span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    },
    end,
    headers: () => {
      const carrier: Record<string, string> = {};
      propagator.inject(context, carrier, {
        set: (into, key, value) => {
          into[key] = value;
        },
      });
      return carrier;
    },
    [Symbol.dispose]: end,
  };
}

type Given = Record<string, string | number | boolean | string[]>;

function given(attributes: Attributes = {}): Given {
  const entries = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Given;
}
