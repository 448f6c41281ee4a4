/** One block of one slot and the page that holds it. */
export interface BlockPlace {
  row: number;
  /** First token of the block. */
  token: number;
  page: number;
}

/**
 * Moves KV of some layers between slots (f32) and pages (storage dtype). Blocks are moved whole: of a block that is not full yet, what
 * lies past its last token is rubbish in either place and read by nobody. Not reentrant: the engine's loop is its only caller. Callers
 * hold the pages (PageSet.hold) while a call runs.
 */
export interface SlotPacker extends AsyncDisposable {
  /** Slots to pages: rounds to the storage dtype (to nearest, ties to even). */
  pack(blocks: readonly BlockPlace[]): Promise<void>;

  /** Pages to slots: exact. */
  unpack(blocks: readonly BlockPlace[]): Promise<void>;

  /** Debug: the first block whose slot differs from its decoded page in any bit; undefined when all are equal. */
  difference(blocks: readonly BlockPlace[]): Promise<BlockPlace | undefined>;

  /** Debug: fills a row of the slots with NaN. */
  poison(row: number): Promise<void>;
}
