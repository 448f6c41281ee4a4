import type { PageSet, WireChoice, WireMemory } from '@causeway/kv';
import type { EndpointContext } from './context.ts';
import type { SenderMessage } from './control.ts';
import type { Tamper } from './part-encoder.ts';
import type { Link } from './link-policies.ts';
import type { PartTable } from './part-table.ts';
import type { Incarnation } from './subjects.ts';
import type { Representation, Ticket } from './types.ts';

/** What an outbound transfer is given by its endpoint. */
export interface OutboundOptions {
  ticket: Ticket;
  pages: PageSet;
  table: PartTable;
  context: EndpointContext;
  /** The pages in the form that travels. */
  memory: WireMemory;
  wire: WireChoice;
  representation: Representation;
  link: Link;
  self: Incarnation & { chip: string };
  deadline: AbortSignal;
  tamper: Tamper | undefined;
  /** Whether the bulk connection is up. */
  bulkUp(): boolean;
  /** Publishes a frame; protocol bytes, or 0 when the connection is down. */
  publish(frame: Uint8Array): number;
  /** Sends to the receiver's control subject. */
  say(message: SenderMessage): void;
  ended(): void;
}
