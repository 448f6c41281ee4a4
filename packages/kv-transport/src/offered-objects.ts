/** How much of an object table a sender has computed: the leading objects that are whole. */
import type { LayerRange } from '@causeway/kv';
import type { PartTable } from './part-table.ts';

export class OfferedObjects {
  readonly #table: PartTable;
  /** Per layer: tokens [0, end) are in the pages. */
  readonly #ends: Float64Array;
  #next = 0;

  constructor(table: PartTable) {
    this.#table = table;
    this.#ends = new Float64Array(table.descriptor.layers.length);
  }

  /** Raw bytes of the leading objects that may leave. */
  get bytes(): number {
    return this.#table.start(this.#next);
  }

  /** Takes note that tokens [0, endToken) of these layers, or of all, are in the pages; what was said before stays. */
  tokens(endToken: number, layers?: LayerRange): void {
    const first = layers?.firstLayer ?? 0;
    const end = layers === undefined ? this.#ends.length : first + layers.layerCount;
    for (let layer = first; layer < end; layer++) this.#ends[layer] = Math.max(this.#ends[layer] ?? 0, endToken);
    while (this.#whole(this.#next)) this.#next++;
  }

  #whole(index: number): boolean {
    const object = this.#table.objects[index];
    if (object === undefined) return false;
    const end = object.firstToken + object.tokenCount;
    return this.#ends.subarray(object.firstLayer, object.firstLayer + object.layerCount).every((known) => known >= end);
  }
}
