import type { Fingerprint, KvCodec, KvDescriptor, PagePool } from '@causeway/kv';
import type { InboundTransfer, OutboundTransfer, ReceiveOptions, SendOptions, TransportCounters } from './types.ts';

/** Where the transport reports what happened; pino's loggers fit. */
export interface TransportLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface KvEndpointOptions {
  /** NATS servers, comma-separated. */
  servers: string;
  workerId: string;
  /** Random, new at each start; default: made here. */
  incarnation?: string;
  /** The worker's pages. */
  pool: PagePool;
  descriptor: KvDescriptor;
  fingerprint: Fingerprint;
  chip: string;
  codec: 'auto' | KvCodec;
  log?: TransportLog;
  /** How long to wait for NATS at start, ms; default 30,000. */
  connectDeadlineMs?: number;
  /** Gives up waiting for NATS at start. */
  signal?: AbortSignal;
}

/** A worker's door to the KV transport: gives tickets, takes and sends KV. */
export interface KvEndpoint extends AsyncDisposable {
  readonly incarnation: string;
  readonly connected: boolean;
  readonly counters: Readonly<TransportCounters>;
  receive(options: ReceiveOptions): InboundTransfer;
  send(options: SendOptions): OutboundTransfer;
}
