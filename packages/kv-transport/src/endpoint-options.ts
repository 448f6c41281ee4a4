import { fail } from '@causeway/errors';
import type { Codecs, Fingerprint, KvCodec, KvDescriptor, ObjectPlaces, PagePool, RoundedWire } from '@causeway/kv';
import type { TransportLog } from './context.ts';
import { FRAME_HEADER_BYTES } from './frame.ts';
import type { ConnectLink } from './kv-link.ts';
import type { NatsAccess } from './nats-link.ts';
import type { Tamper } from './part-encoder.ts';
import { PART_ALIGNMENT } from './part-table.ts';

/** Objects are one page, or as many as stay below this when pages are small. */
export const OBJECT_BYTES = 256 * 1024;
/** Largest part that an endpoint asks for, whatever the server would carry. */
export const LARGEST_PART = (1 << 20) - FRAME_HEADER_BYTES;
/** Smallest part that is worth a frame. */
export const SMALLEST_PART = 1024;

export interface KvEndpointOptions {
  /** NATS servers, comma-separated. */
  servers: string;
  access?: NatsAccess;
  workerId: string;
  /** Random, new at each start; default: made here. */
  incarnation?: string;
  /** The worker's pages. Must outlive the endpoint. */
  pool: PagePool;
  /** Default: the pool's. */
  descriptor?: KvDescriptor;
  /** Where the pages hold what objects describe; default: the descriptor's PageLayout. */
  places?: ObjectPlaces;
  fingerprint: Fingerprint;
  chip: string;
  codec: 'auto' | KvCodec;
  /** Lets numbers be rounded where the two ends' element types differ; both must. Default false: such transfers are refused. */
  lossy?: boolean;
  /** The element type in which to send though it rounds, where `lossy` allows it at both ends. Default: the one that loses least. */
  rounded?: RoundedWire | undefined;
  log?: TransportLog;
  /** How long to wait for NATS at start, ms; default 30,000. */
  connectDeadlineMs?: number;
  /** Gives up waiting for NATS at start. */
  signal?: AbortSignal;
  /** Open credits, and frame slots of either direction, bytes; default 16 MiB. */
  budgetBytes?: number;
  /** How long a peer may be silent while the connection is up, ms; default 20,000. */
  silenceMs?: number;
  /** Threads that encode and decode; default as CodecPool. */
  codecThreads?: number;
  /** Writes every published frame to this file: u32 little-endian length, then the frame. */
  recordFrames?: string;
  /** For tests: alters raw bytes before their checksums are made. */
  tamper?: Tamper;
  /** For the model checker: other connections than those of NATS. */
  connectLink?: ConnectLink;
  /** For the model checker: other codec threads than the endpoint's own. The endpoint disposes them. */
  codecs?: Codecs;
}

/**
 * Raw bytes of a part: as many as messages of `room` bytes and the wanted size allow, cut so that no number is split.
 * @throws ServiceError `payload_too_large` when no useful frame fits
 */
export function partSize(room: number, wanted: number): number {
  const largest = Math.floor(room / PART_ALIGNMENT) * PART_ALIGNMENT;
  if (largest < SMALLEST_PART) {
    fail(
      'resource_exhausted',
      'payload_too_large',
      `NATS messages hold ${room + FRAME_HEADER_BYTES} bytes here; KV frames need ${SMALLEST_PART + FRAME_HEADER_BYTES}: raise max_payload`,
    );
  }
  return Math.min(largest, Math.max(SMALLEST_PART, Math.ceil(wanted / PART_ALIGNMENT) * PART_ALIGNMENT));
}
