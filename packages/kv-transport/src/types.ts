/** What workers see of the KV transport. */
import type { ComputeOrder, Fingerprint, KvCodec, KvDescriptor, KvDtype, KvObject, LayerRange, PageSet } from '@causeway/kv';

/** Permission to send one sequence's KV to a receiver's incarnation. Crosses the wire as causeway.kv.v1.Ticket. */
export interface Ticket {
  /** 32 lower-case hex digits, random. */
  transferId: string;
  epoch: number;
  workerId: string;
  incarnation: string;
  /** The receiver's NATS max_payload, bytes. */
  maxPayload: number;
  /** Largest raw part that the receiver takes, bytes. */
  maxPartBytes: number;
  descriptor: KvDescriptor;
  fingerprint: Fingerprint;
  /** The object table; an index into it is the object index of frames. */
  objects: readonly KvObject[];
  acceptedCodecs: readonly KvCodec[];
  /** Element types that the receiver takes on the wire. */
  acceptedDtypes: readonly KvDtype[];
  /** The receiver's deployment lets numbers be rounded on their way. */
  lossy: boolean;
  /** Remaining life when the ticket was made, ms. */
  deadlineMs: number;
  chip: string;
  /** Of the prompt. */
  tokens: number;
}

/** The first token of the answer, when the sender knows it. */
export interface FirstTokenOptions {
  firstToken?: number;
  /** What else is known of it; the transport passes it on unread. */
  firstTokenDetail?: Uint8Array;
}

/** What a receiver knows of a committed transfer. */
export interface CommittedKv extends FirstTokenOptions {
  /** Bytes of KV now in pages. */
  rawBytes: number;
  /** Bytes of frames that arrived: headers, repeats and duplicates included. */
  receivedBytes: number;
  /** The codec that carried most bytes. */
  codec: KvCodec;
  /** First frame to committed, ms. */
  transferMs: number;
  senderWorker: string;
  senderChip: string;
  representation: Representation;
  /** Wire to storage, thread time, ms; 0 when pages are in wire order. */
  convertMs: number;
}

/** How KV is stored at both ends and travels between them. */
export interface Representation {
  /** As storageName tells. */
  sender: string;
  receiver: string;
  wire: KvDtype;
  /** Whether the receiver's pages hold exactly the sender's numbers. */
  lossless: boolean;
}

/** A transfer as its receiver holds it. */
export interface InboundTransfer {
  readonly ticket: Ticket;
  /**
   * Settles once: every part in place and the digest equal (the pages are committed), or a ServiceError. Either way no job of
   * this transfer touches the pages any more: after a failure or cancel(), await this before using them for something else.
   */
  readonly committed: Promise<CommittedKv>;
  /** Gives the transfer up and tells the sender. Idempotent; nothing happens after `committed`. */
  cancel(reason: string): void;
}

/** Counts of one transfer, as its sender holds them. */
export interface TransferStats {
  rawBytes: number;
  /** Frame bytes published, headers and repeats included; NATS protocol lines are not. */
  sentBytes: number;
  /** As sentBytes, with the bytes of NATS's own protocol lines. */
  wireBytes: number;
  frames: number;
  resentParts: number;
  codec: KvCodec;
  /** Why that codec. */
  codecReason: string;
  /** First frame published to committed, ms. */
  transferMs: number;
  representation: Representation;
  /** Storage to wire, thread time, ms; 0 when pages are in wire order. */
  convertMs: number;
}

/** A transfer as its sender holds it. */
export interface OutboundTransfer {
  /** Says that tokens [0, endToken) of these layers, or of all, are in the pages and may leave. Never goes back. */
  offer(endToken: number, layers?: LayerRange): void;
  /**
   * Says that these layers, or all, have run the prompt's last chunk and their windows and states are in the pages and may leave.
   * @throws ServiceError `failed_precondition` unless all their tokens were offered before
   */
  offerFinal(layers?: LayerRange): void;
  /** Offers everything; resolves when the receiver has committed. */
  finish(options: FirstTokenOptions): Promise<TransferStats>;
  /** Gives the transfer up and tells the receiver. Idempotent. */
  abort(reason: string): void;
  /** Aborts, with the error, when the transfer fails: what is computed for it is in vain. */
  readonly failed: AbortSignal;
  /** Counts so far. */
  readonly stats: TransferStats;
}

export interface ReceiveOptions {
  /** State `reserved` or `filling`; becomes `committed`. Released by the caller, whatever happens. */
  pages: PageSet;
  tokens: number;
  /** In which order the sender computes; default: all layers together. It decides when what can leave, nothing else. */
  order?: ComputeOrder | undefined;
  deadlineMs: number;
  signal: AbortSignal;
}

export interface SendOptions {
  ticket: Ticket;
  /** Pages of this endpoint's pool that hold the prompt. Held until the transfer ends. */
  pages: PageSet;
  signal: AbortSignal;
}

/** Counts since the endpoint was made. */
export interface TransportCounters {
  rawBytesSent: number;
  rawBytesReceived: number;
  /** Frame bytes (header + body). */
  frameBytesSent: number;
  frameBytesReceived: number;
  /** All bytes of the endpoint's connections as NATS carries them: protocol lines, frames, control messages. */
  wireBytesSent: number;
  framesSent: number;
  framesReceived: number;
  partsResent: number;
  checksumFailures: number;
  staleFrames: number;
  duplicateFrames: number;
  /** Frames of transfers that have ended. */
  lateFrames: number;
  unknownTransfers: number;
  malformedFrames: number;
  malformedControls: number;
  beyondCredit: number;
  transfersCommitted: number;
  transfersFailed: number;
}
