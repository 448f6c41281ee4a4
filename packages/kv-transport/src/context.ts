/** What an endpoint lends to its transfers. */
import type { Codecs, Fingerprint, KvDescriptor, RoundedWire, SlotArena, WireMemories } from '@causeway/kv';
import type { CreditBudget } from './credit.ts';
import type { LinkMeters } from './link-meter.ts';
import type { TransportCounters } from './types.ts';

/** Where the transport reports what happened; pino's loggers fit. */
export interface TransportLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Frame slots and the number under which codec threads know their memory. */
export interface RegisteredArena {
  arena: SlotArena;
  region: number;
}

export interface EndpointContext {
  descriptor: KvDescriptor;
  fingerprint: Fingerprint;
  counters: TransportCounters;
  log: TransportLog;
  codecs: Codecs;
  credits: CreditBudget;
  links: LinkMeters;
  inboundArena: RegisteredArena;
  outboundArena: RegisteredArena;
  /** Aborts when the endpoint closes. */
  signal: AbortSignal;
  /** How long a peer may be silent while the connection is up, ms. */
  silenceMs: number;
  /** Round trip to the NATS server, ms. */
  rttMs(): number;
  /** Resolves when everything that the server had for this endpoint's bulk connection has arrived. */
  flushBulk(): Promise<void>;
  /** This worker's pages, as transfers see them. */
  memories: WireMemories;
  /** The deployment lets numbers be rounded on their way. */
  lossy: boolean;
  /** In which type it wants them to travel though it rounds. */
  rounded: RoundedWire | undefined;
}
