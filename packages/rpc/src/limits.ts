import type { ChannelOptions } from '@grpc/grpc-js';

/** Largest message in either direction, bytes. Bulk KV goes over NATS. */
export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

export interface TransportOptions {
  /** Default 64 MiB. */
  maxMessageBytes?: number;
  /** A silent connection is probed after this time; default 2000 ms. */
  keepaliveTimeMs?: number;
  /** A probe unanswered for this time ends the connection; default 3000 ms. */
  keepaliveTimeoutMs?: number;
}

/** grpc-js options that both sides share: message sizes, and probes that find a dead or stopped peer within about 5 s. */
export function transportOptions(options: TransportOptions): ChannelOptions {
  const maxBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
  return {
    'grpc.max_receive_message_length': maxBytes,
    'grpc.max_send_message_length': maxBytes,
    'grpc.keepalive_time_ms': options.keepaliveTimeMs ?? 2000,
    'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs ?? 3000,
    'grpc.keepalive_permit_without_calls': 1,
  };
}
