export type { KvEndpoint, KvEndpointOptions, TransportLog } from './endpoint.ts';
export type {
  CommittedKv,
  InboundTransfer,
  OutboundTransfer,
  ReceiveOptions,
  SendOptions,
  Ticket,
  TransferStats,
  TransportCounters,
} from './types.ts';
