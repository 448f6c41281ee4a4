export { KvEndpoint } from './endpoint.ts';
export type { KvEndpointOptions } from './endpoint-options.ts';
export type { LinkState } from './link-policies.ts';
export type { TransportLog } from './context.ts';
export type { Tamper } from './part-encoder.ts';
export { ticketFromProto, ticketToProto } from './ticket.ts';
export type {
  CommittedKv,
  FirstTokenOptions,
  InboundTransfer,
  OutboundTransfer,
  ReceiveOptions,
  SendOptions,
  Ticket,
  TransferStats,
  TransportCounters,
} from './types.ts';
export { codecFromProto, codecToProto, descriptorFromProto, descriptorToProto, fingerprintFromProto } from './wire-types.ts';
