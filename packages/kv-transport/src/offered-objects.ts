/**
 * How much of an object table a sender has computed: the leading objects that are whole. Tokens and entries are, once their tokens
 * are in the pages; windows and states change with every chunk and are only when their layer has run the last one.
 */
import { fail } from '@causeway/errors';
import { finalLayer, type KvObject, type LayerRange } from '@causeway/kv';
import type { PartTable } from './part-table.ts';

export class OfferedObjects {
  readonly #table: PartTable;
  /** Of the prompt. */
  readonly #tokens: number;
  /** Per layer: tokens [0, end) are in the pages. */
  readonly #ends: Float64Array;
  readonly #final: boolean[];
  #finishedLayers = 0;
  #next = 0;

  constructor(table: PartTable, tokens: number) {
    this.#table = table;
    this.#tokens = tokens;
    this.#ends = new Float64Array(table.descriptor.layers.length);
    this.#final = Array.from(this.#ends, () => false);
  }

  /** Raw bytes of the leading objects that may leave. */
  get bytes(): number {
    return this.#table.start(this.#next);
  }

  /** Leading layers whose windows and states are final. */
  get finishedLayers(): number {
    return this.#finishedLayers;
  }

  /**
   * Takes note that tokens [0, endToken) of these layers, or of all, are in the pages; what was said before stays. Like the other two,
   * it tells whether more may leave now.
   */
  tokens(endToken: number, layers?: LayerRange): boolean {
    for (const layer of this.#layers(layers)) this.#ends[layer] = Math.max(this.#ends[layer] ?? 0, endToken);
    return this.#advance();
  }

  /**
   * Takes note that the windows and states of these layers, or of all, are in the pages as the last chunk leaves them.
   * @throws ServiceError `failed_precondition` unless all tokens of these layers were offered before: then a chunk is still to come
   */
  final(layers?: LayerRange): boolean {
    for (const layer of this.#layers(layers)) {
      const end = this.#ends[layer] as number;
      if (end < this.#tokens) {
        fail(
          'failed_precondition',
          'internal',
          `windows and states of layer ${layer} are not final: ${end} of ${this.#tokens} tokens were offered`,
        );
      }
      this.#final[layer] = true;
    }
    const open = this.#final.indexOf(false);
    this.#finishedLayers = open < 0 ? this.#final.length : open;
    return this.#advance();
  }

  /** Takes note that everything is in the pages. */
  all(): boolean {
    const more = this.tokens(this.#tokens);
    return this.final() || more;
  }

  #layers(range: LayerRange | undefined): number[] {
    const { firstLayer, layerCount } = range ?? { firstLayer: 0, layerCount: this.#ends.length };
    return Array.from({ length: Math.min(layerCount, this.#ends.length - firstLayer) }, (_, i) => firstLayer + i);
  }

  /** Whether there was something to pass. */
  #advance(): boolean {
    const before = this.#next;
    for (let object = this.#table.objects[before]; object !== undefined && this.#whole(object); ) {
      object = this.#table.objects[++this.#next];
    }
    return this.#next > before;
  }

  #whole(object: KvObject): boolean {
    const layer = finalLayer(object);
    if (layer !== undefined) return layer < this.#finishedLayers;
    if (object.kind === 'entries') {
      return (this.#ends[object.layer] as number) >= (object.firstEntry + object.entryCount) * object.ratio;
    }
    if (object.kind !== 'tokens') return false;
    const { firstLayer, layerCount, firstToken, tokenCount } = object;
    return this.#ends.subarray(firstLayer, firstLayer + layerCount).every((end) => end >= firstToken + tokenCount);
  }
}
