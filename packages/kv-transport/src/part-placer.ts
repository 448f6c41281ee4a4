/** Puts the bodies of frames where they belong in the pages. */
import type { PageSet } from '@causeway/kv';
import type { EndpointContext } from './context.ts';
import type { FrameHeader } from './frame.ts';
import type { ObjectRuns } from './object-runs.ts';
import type { PartLocation } from './part-table.ts';

export interface PartPlacerOptions {
  pages: PageSet;
  context: EndpointContext;
  runs: ObjectRuns;
  /** Whether the transfer still wants its parts. */
  wanted(): boolean;
}

/**
 * Decodes one body into the pages, under a hold on them. Encoded bodies are copied to a slot that codec threads can read, so
 * what waits for a slot is bounded by the credits.
 * @returns what decoding took, ms; undefined when the transfer ended while the part waited
 * @throws ServiceError `malformed_frame` or `checksum` when the body isn't what the header says: nothing was written then
 */
export async function placePart(
  options: PartPlacerOptions,
  part: PartLocation,
  header: FrameHeader,
  body: Uint8Array,
): Promise<number | undefined> {
  const { context, pages } = options;
  using _hold = pages.hold();
  const job = { ...options.runs.of(part), rawCrc: header.rawCrc };
  if (header.codec === 'none') return (await context.codecs.decode({ ...job, codec: 'none', body })).decodeMs;
  const { arena, region } = context.inboundArena;
  const slot = await arena.acquire(context.signal);
  try {
    // the pages may have been given up while this part waited
    if (!options.wanted()) return undefined;
    slot.bytes.set(body);
    const run = { region, offset: slot.offset, length: body.length };
    return (await context.codecs.decode({ ...job, codec: header.codec, body: run })).decodeMs;
  } finally {
    slot.release();
  }
}
