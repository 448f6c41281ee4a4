import { defineConfig } from './field.ts';
import { bool, number, urls } from './schemas.ts';

/** Settings by which any process is observed. */
export const OBSERVING_FIELDS = defineConfig({
  otlpTracesEndpoint: {
    env: 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
    flag: 'otlp-traces-endpoint',
    schema: urls(['http:', 'https:']),
    optional: true,
    doc: 'Where OpenTelemetry spans go by OTLP over HTTP, e.g. http://collector:4318/v1/traces; default: nowhere.',
  },
  traceRatio: {
    env: 'CAUSEWAY_TRACE_RATIO',
    flag: 'trace-ratio',
    schema: number({ min: 0, max: 1 }),
    default: 1,
    doc: 'Share of requests that are traced, when their client has not decided by a traceparent header.',
  },
  watchSections: {
    env: 'CAUSEWAY_WATCH_SECTIONS',
    flag: 'watch-sections',
    schema: bool(),
    default: false,
    doc: 'Measure every callback of the event loop (causeway_event_loop_long_sections_total); costs a few microseconds for each.',
  },
});
