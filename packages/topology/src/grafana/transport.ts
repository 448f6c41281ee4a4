import { type Dashboard, quantiles, query, rate, sum } from './queries.ts';

/** What moves KV: workers' transfers, and the NATS server between them. */
export const transport: Dashboard = {
  uid: 'causeway-transport',
  title: 'Causeway: transport',
  panels: [
    {
      title: 'Sent by each worker',
      description: 'Frames of KV over NATS, headers and repeats included.',
      unit: 'Bps',
      queries: [query(sum('causeway_kv_transfer_bytes_total', 'instance'), '{{instance}}')],
    },
    {
      title: 'Transfers',
      description: 'Committed, by codec.',
      unit: 'ops',
      queries: [query(sum('causeway_kv_transfer_seconds_count', 'codec'), '{{codec}}')],
    },
    {
      title: 'Bytes of a transfer',
      description: 'On the wire, on average.',
      unit: 'bytes',
      queries: [
        query(
          `${sum('causeway_kv_transfer_bytes_total', 'instance')} / ${sum('causeway_kv_transfer_seconds_count', 'instance')}`,
          '{{instance}}',
        ),
      ],
    },
    {
      title: 'Time of a transfer, by worker',
      description: 'First frame to commit.',
      unit: 's',
      queries: quantiles('causeway_kv_transfer_seconds', 'instance'),
    },
    {
      title: 'Repairs',
      description: 'Parts sent again, frames of another epoch dropped, parts refused for their checksum.',
      unit: 'ops',
      quiet: true,
      queries: [
        query(sum('causeway_kv_resent_parts_total'), 'resent'),
        query(sum('causeway_kv_stale_frames_total'), 'stale'),
        query(sum('causeway_kv_checksum_failures_total'), 'checksum'),
      ],
    },
    {
      title: 'Connected to NATS',
      description: '1 while the connection is up.',
      unit: 'short',
      quiet: true,
      queries: [query('min by (instance) (causeway_nats_connected)', '{{instance}}')],
    },
    {
      title: 'Transfers under way',
      description: 'In: reserved and not committed yet; out: being sent.',
      unit: 'short',
      quiet: true,
      queries: [query('sum by (direction) (causeway_kv_open_transfers)', '{{direction}}')],
    },
    {
      title: 'Credit',
      description: 'KV that senders may send and that has not arrived. It falls to nothing when no transfer is under way.',
      unit: 'bytes',
      quiet: true,
      queries: [query('causeway_kv_credit_bytes', '{{instance}}')],
    },
    {
      title: 'NATS: bytes',
      description: 'Taken and given by the server, of all its clients.',
      unit: 'Bps',
      queries: [query(`max by (direction) (${rate('causeway_nats_server_bytes_total')})`, '{{direction}}')],
    },
    {
      title: 'NATS: messages',
      description: 'Taken and given by the server.',
      unit: 'ops',
      queries: [query(`max by (direction) (${rate('causeway_nats_server_messages_total')})`, '{{direction}}')],
    },
    {
      title: 'NATS: pending',
      description: 'Bytes that the server holds for clients that have not taken them yet.',
      unit: 'bytes',
      quiet: true,
      queries: [query('max(causeway_nats_server_pending_bytes)', 'pending')],
    },
    {
      title: 'NATS: slow consumers',
      description: 'Clients that the server cut off because they did not take what was there for them; clients connected.',
      unit: 'short',
      quiet: true,
      queries: [
        query('max(causeway_nats_server_slow_consumers_total)', 'slow consumers'),
        query('max(causeway_nats_server_connections)', 'connections'),
      ],
    },
  ],
};
