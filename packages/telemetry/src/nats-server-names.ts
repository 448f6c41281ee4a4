/** Metrics of the NATS server, as its monitoring port tells them; one worker of a cluster at a time tells them. */
import type { MetricDefinition } from './metric-definition.ts';

export const NATS_SERVER_METRICS = {
  natsServerBytes: {
    name: 'causeway_nats_server_bytes_total',
    kind: 'counter',
    help: 'Bytes that the NATS server took (in) and gave (out), of all its clients.',
    labels: ['direction'],
  },
  natsServerMessages: {
    name: 'causeway_nats_server_messages_total',
    kind: 'counter',
    help: 'Messages that the NATS server took (in) and gave (out), of all its clients.',
    labels: ['direction'],
  },
  natsServerSlowConsumers: {
    name: 'causeway_nats_server_slow_consumers_total',
    kind: 'counter',
    help: 'Clients that the NATS server cut off because they did not take what was there for them.',
    labels: [],
  },
  natsServerPending: {
    name: 'causeway_nats_server_pending_bytes',
    kind: 'gauge',
    help: 'Bytes that the NATS server holds for clients that have not taken them yet.',
    labels: [],
  },
  natsServerConnections: {
    name: 'causeway_nats_server_connections',
    kind: 'gauge',
    help: 'Clients that are connected to the NATS server.',
    labels: [],
  },
} as const satisfies Record<string, MetricDefinition>;
