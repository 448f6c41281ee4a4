/** Turns parts into frames: gathers, perhaps alters (tests), encodes into a frame slot, writes the header. */
import { type CodecPolicy, DTYPE_BYTES, type EncodedPart, type MemoryRun, type PageSet, type Slot } from '@causeway/kv';
import type { EndpointContext } from './context.ts';
import { FRAME_HEADER_BYTES, writeFrameHeader } from './frame.ts';
import type { PartLocation, PartTable } from './part-table.ts';
import type { Ticket } from './types.ts';

/** Alters the raw bytes of a part before its checksums are made: proves that receivers use what they get. For tests. */
export type Tamper = (raw: Uint8Array, part: { object: number; part: number; firstToken: number; objectOffset: number }) => void;

/** A frame in its slot. */
export interface OutboundFrame {
  slot: Slot;
  encoded: EncodedPart;
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
  policy: CodecPolicy;
  tamper: Tamper | undefined;
}

export class PartEncoder {
  readonly #options: PartEncoderOptions;
  readonly #elementBytes: 2 | 4;

  constructor(options: PartEncoderOptions) {
    this.#options = options;
    this.#elementBytes = DTYPE_BYTES[options.ticket.descriptor.storage.dtype] as 2 | 4;
  }

  /** Encodes a part into a slot of its own, waiting for one. The caller releases the slot. */
  async encode(part: PartLocation, signal: AbortSignal): Promise<OutboundFrame> {
    const { context, pages, policy, table, tamper } = this.#options;
    const { arena, region } = context.outboundArena;
    const slot = await arena.acquire(signal);
    try {
      const out = { region, offset: slot.offset + FRAME_HEADER_BYTES, length: slot.byteLength - FRAME_HEADER_BYTES };
      const raw = table.runs(part).map((run) => context.pageRun(pages, run));
      const codec = policy.next();
      const encoded =
        tamper === undefined ? await this.#run(codec, raw, out) : await this.#altered(tamper, part, codec, raw, out, signal);
      policy.encoded(codec, encoded.rawBytes, encoded.encodedBytes, encoded.encodeMs);
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

  #run(codec: EncodedPart['codec'], raw: readonly MemoryRun[], out: MemoryRun): Promise<EncodedPart> {
    return this.#options.context.codecs.encode({ codec, elementBytes: this.#elementBytes, raw, out });
  }

  async #altered(
    tamper: Tamper,
    part: PartLocation,
    codec: EncodedPart['codec'],
    raw: readonly MemoryRun[],
    out: MemoryRun,
    signal: AbortSignal,
  ): Promise<EncodedPart> {
    const { context, ticket } = this.#options;
    const { arena, region } = context.outboundArena;
    const copy = await arena.acquire(signal);
    try {
      const run = { region, offset: copy.offset, length: part.length };
      await this.#run('none', raw, run);
      const firstToken = ticket.objects[part.object]?.firstToken ?? 0;
      tamper(copy.bytes.subarray(0, part.length), {
        object: part.object,
        part: part.part,
        firstToken,
        objectOffset: part.objectOffset,
      });
      return await this.#run(codec, [run], out);
    } finally {
      copy.release();
    }
  }
}
