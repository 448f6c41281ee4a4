/** Turns parts into frames: gathers, perhaps alters (tests), encodes into a frame slot, writes the header. */
import type { EncodedPart, KvObject, MemoryRun, PageSet, Slot, WireMemory } from '@causeway/kv';
import type { EndpointContext } from './context.ts';
import { FRAME_HEADER_BYTES, writeFrameHeader } from './frame.ts';
import type { Link } from './link-policies.ts';
import { ObjectRuns, type RawPart } from './object-runs.ts';
import type { PartLocation, PartTable } from './part-table.ts';
import type { Ticket } from './types.ts';

/** Alters the raw bytes of a part before its checksums are made: proves that receivers use what they get. For tests. */
export type Tamper = (raw: Uint8Array, part: { object: number; content: KvObject; part: number; objectOffset: number }) => void;

/** A frame in its slot. */
export interface OutboundFrame {
  slot: Slot;
  encoded: EncodedPart;
  /** When, if once only: of a part that was published again nobody knows which frame arrived. */
  publishedAt?: number | undefined;
}

/** Bytes of a frame, header included. */
export function frameBytes(frame: OutboundFrame): number {
  return FRAME_HEADER_BYTES + frame.encoded.encodedBytes;
}

export interface PartEncoderOptions {
  ticket: Ticket;
  pages: PageSet;
  table: PartTable;
  context: EndpointContext;
  memory: WireMemory;
  link: Link;
  tamper: Tamper | undefined;
}

export class PartEncoder {
  readonly #options: PartEncoderOptions;
  readonly #runs: ObjectRuns;

  constructor(options: PartEncoderOptions) {
    this.#options = options;
    this.#runs = new ObjectRuns(options);
  }

  /** Encodes a part into a slot of its own, waiting for one. The caller releases the slot. */
  async encode(part: PartLocation, signal: AbortSignal): Promise<OutboundFrame> {
    const { context, tamper, table } = this.#options;
    const { policy } = this.#options.link;
    const { arena, region } = context.outboundArena;
    const slot = await arena.acquire(signal);
    try {
      const out = { region, offset: slot.offset + FRAME_HEADER_BYTES, length: slot.byteLength - FRAME_HEADER_BYTES };
      const raw = this.#runs.of(part);
      const codec = policy.next(table.partCount);
      const encoded =
        tamper === undefined ? await this.#run(codec, raw, out) : await this.#altered(tamper, part, codec, raw, out, signal);
      policy.encoded(codec, encoded);
      return { slot, encoded };
    } catch (error) {
      slot.release();
      throw error;
    }
  }

  /** Writes the header and returns the whole frame, a view of the slot. */
  finish(frame: OutboundFrame, part: PartLocation, resent: boolean): Uint8Array {
    const { ticket } = this.#options;
    const { encoded, slot } = frame;
    writeFrameHeader(slot.bytes, {
      transferId: ticket.transferId,
      epoch: ticket.epoch,
      object: part.object,
      part: part.part,
      codec: encoded.codec,
      rawBytes: encoded.rawBytes,
      bodyBytes: encoded.encodedBytes,
      bodyCrc: encoded.bodyCrc,
      rawCrc: encoded.rawCrc,
      resent,
    });
    return slot.bytes.subarray(0, frameBytes(frame));
  }

  #run(codec: EncodedPart['codec'], part: RawPart, out: MemoryRun): Promise<EncodedPart> {
    return this.#options.context.codecs.encode({ codec, ...part, out });
  }

  async #altered(
    tamper: Tamper,
    part: PartLocation,
    codec: EncodedPart['codec'],
    raw: RawPart,
    out: MemoryRun,
    signal: AbortSignal,
  ): Promise<EncodedPart> {
    const { context, table } = this.#options;
    const { arena, region } = context.outboundArena;
    const copy = await arena.acquire(signal);
    try {
      const run = { region, offset: copy.offset, length: part.length };
      await this.#run('none', raw, run);
      const { object, objectOffset } = part;
      tamper(copy.bytes.subarray(0, part.length), { object, content: table.object(part), part: part.part, objectOffset });
      return await this.#run(codec, { ...raw, raw: [run] }, out);
    } finally {
      copy.release();
    }
  }
}
