import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MetricDefinition } from './metric-definition.ts';
import { METRICS, type MetricKey } from './names.ts';

type LabelOf<K extends MetricKey> = (typeof METRICS)[K]['labels'][number];
type InstrumentOf<K extends MetricKey> = (typeof METRICS)[K]['kind'] extends 'counter'
  ? Counter<LabelOf<K>>
  : (typeof METRICS)[K]['kind'] extends 'gauge'
    ? Gauge<LabelOf<K>>
    : Histogram<LabelOf<K>>;

/** Instruments by key, and the registry that `/metrics` prints. */
export type Metrics<K extends MetricKey> = { readonly [Key in K]: InstrumentOf<Key> } & { readonly registry: Registry };

export interface MetricsOptions {
  /** Default: a new one. */
  registry?: Registry;
  /** Also Node's own process_* and nodejs_* metrics; default false. */
  nodeMetrics?: boolean;
}

/**
 * Makes the instruments that a process uses: `createMetrics(['handoffGap', 'routerRequests'])`.
 * A key that the registry already has is reused, so that packages may ask for their own subset of one registry.
 */
export function createMetrics<const K extends MetricKey>(keys: readonly K[], options: MetricsOptions = {}): Metrics<K> {
  const registry = options.registry ?? new Registry();
  if (options.nodeMetrics === true) collectDefaultMetrics({ register: registry });
  const instruments = Object.fromEntries(keys.map((key) => [key, instrument(METRICS[key], registry)]));
  return { ...instruments, registry } as Metrics<K>;
}

function instrument(definition: MetricDefinition, registry: Registry): unknown {
  const existing = registry.getSingleMetric(definition.name);
  if (existing !== undefined) return existing;
  const base = { name: definition.name, help: definition.help, labelNames: [...definition.labels], registers: [registry] };
  switch (definition.kind) {
    case 'counter':
      return new Counter(base);
    case 'gauge':
      return new Gauge(base);
    case 'histogram':
      return new Histogram({ ...base, ...(definition.buckets === undefined ? {} : { buckets: [...definition.buckets] }) });
    default:
      return definition.kind satisfies never;
  }
}
