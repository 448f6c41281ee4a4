/**
 * The pages of a receiver that stores KV in another form than travels. An object holds whole blocks of some layers: they become pages in
 * the codec threads as soon as the object's last part is in place, while later parts travel. A part that is in place is never written
 * again, so what a conversion reads stays as it is.
 */
import { fail } from '@causeway/errors';
import type { PageSet, WireMemory } from '@causeway/kv';
import type { PartLocation, PartTable } from './part-table.ts';

export class ArrivingBlocks {
  readonly #table: PartTable;
  readonly #memory: WireMemory;
  readonly #pages: PageSet;
  /** Per object: parts that are not in place. */
  readonly #missing: Uint32Array;
  /** On the pages, until their shadows are given back. */
  #hold: Disposable | undefined;
  #unconverted: number;
  #ms = 0;

  /** @throws ServiceError `descriptor_mismatch` for objects that are no whole blocks of tokens: such are not converted */
  constructor(o: { table: PartTable; memory: WireMemory; pages: PageSet }) {
    this.#table = o.table;
    this.#memory = o.memory;
    this.#pages = o.pages;
    const { objects } = o.table;
    const { blockTokens } = o.memory.descriptor.storage;
    for (const [index, object] of objects.entries()) {
      if (object.kind === 'tokens' && object.firstToken % blockTokens === 0) continue;
      const what = object.kind === 'tokens' ? `tokens from ${object.firstToken} on` : object.kind;
      const why = `only blocks of ${blockTokens} tokens travel in another form than they are stored in`;
      fail('failed_precondition', 'descriptor_mismatch', `object ${index} holds ${what}: ${why}`);
    }
    this.#missing = Uint32Array.from(objects, (_, index) => o.table.partsOf(index));
    this.#unconverted = objects.length;
    this.#hold = o.pages.hold();
  }

  /** All pages are made. */
  get done(): boolean {
    return this.#unconverted === 0;
  }

  /** What conversions took so far, thread time in ms. */
  get ms(): number {
    return this.#ms;
  }

  /**
   * Takes note that a part is in place, once for each.
   * @returns undefined unless it was the last one of its object
   */
  placed({ object }: Pick<PartLocation, 'object'>): Promise<void> | undefined {
    const missing = (this.#missing[object] as number) - 1;
    this.#missing[object] = missing;
    return missing === 0 ? this.#convert(object) : undefined;
  }

  /** Gives the shadows' memory and the pages back. No job of this transfer runs any more. */
  letGo(): void {
    if (this.#hold === undefined) return;
    this.#memory.discard(this.#pages);
    this.#hold[Symbol.dispose]();
    this.#hold = undefined;
  }

  async #convert(index: number): Promise<void> {
    const object = this.#table.object({ object: index });
    if (object.kind !== 'tokens') return;
    const { firstLayer, layerCount, firstToken, tokenCount } = object;
    const { blockTokens } = this.#memory.descriptor.storage;
    const end = Math.ceil((firstToken + tokenCount) / blockTokens);
    const layers = { firstLayer, layerCount };
    this.#ms += await this.#memory.convert('fromWire', this.#pages, firstToken / blockTokens, end, layers);
    this.#unconverted--;
  }
}
