/**
 * DeepSeek-V4-Flash's KV, as its published configuration gives it: 43 layers, all with a window of 128 tokens; 21 with an entry for
 * every 4 tokens and an indexer's key beside it, 20 with an entry for every 128; each with what it has pending as f32 states.
 */
import {
  DESCRIPTOR_VERSION,
  type KvDescriptor,
  type KvObject,
  type LayerGeometry,
  type ObjectPlaces,
  ObjectGeometry,
  pageBytes,
  type Segment,
} from '@causeway/kv';

const TOKENS_A_BLOCK = 128;
const WINDOW = { kind: 'latent', rank: 448, ropeDim: 64, window: 128 } as const;

const sparse: LayerGeometry = {
  ...WINDOW,
  entries: [
    { name: 'kv', ratio: 4, width: 512 },
    { name: 'indexer', ratio: 4, width: 128 },
  ],
  states: [
    { name: 'kv-pending', dtype: 'f32', shape: [2, 8, 1024] },
    { name: 'indexer-pending', dtype: 'f32', shape: [2, 8, 256] },
  ],
};
const heavy: LayerGeometry = {
  ...WINDOW,
  entries: [{ name: 'kv', ratio: 128, width: 512 }],
  states: [{ name: 'kv-pending', dtype: 'f32', shape: [2, 128, 512] }],
};

/** bf16 entries: 6,880 bytes a token. */
export const DEEPSEEK_V4: KvDescriptor = {
  version: DESCRIPTOR_VERSION,
  layers: [WINDOW, WINDOW, ...Array.from({ length: 41 }, (_, i) => (i % 2 === 0 ? sparse : heavy))],
  storage: { dtype: 'bf16', layout: 'NHD', blockTokens: TOKENS_A_BLOCK, shards: { count: 1, index: 0 } },
};

const ALIGNMENT = 64;

/**
 * Places for a sequence that is longer than memory: all its objects lie in a few pages, many in the same bytes. Both ends place an
 * object alike, so that the receiver's pages equal the sender's once everything has come, if every object is the sender's.
 */
export class FoldedPlaces implements ObjectPlaces {
  readonly #objects = new ObjectGeometry(DEEPSEEK_V4);
  readonly #pageBytes = pageBytes(DEEPSEEK_V4);
  readonly #pages: number;

  constructor(pages: number) {
    this.#pages = pages;
  }

  pages(): number {
    return this.#pages;
  }

  segments(object: KvObject): readonly Segment[] {
    const length = this.#objects.bytes(object);
    const position = object.kind === 'entries' ? object.firstEntry : 0;
    const layer = object.kind === 'tokens' ? object.firstLayer : object.layer;
    const seed = Math.imul(layer * 65_537 + position, 0x9e37_79b1) >>> 0;
    const places = Math.floor((this.#pageBytes - length) / ALIGNMENT) + 1;
    return [{ page: seed % this.#pages, offset: ((seed >>> 8) % places) * ALIGNMENT, length }];
  }

  /** A copy of the pages with zeros where no object lies. */
  objectBytes(memory: Uint8Array, objects: readonly KvObject[]): Uint8Array {
    const copy = new Uint8Array(memory.length);
    const copied = new Set<number>();
    for (const object of objects) {
      for (const { page, offset, length } of this.segments(object)) {
        const at = page * this.#pageBytes + offset;
        // many objects lie in the same bytes
        if (copied.has(at * 2 ** 21 + length)) continue;
        copied.add(at * 2 ** 21 + length);
        copy.set(memory.subarray(at, at + length), at);
      }
    }
    return copy;
  }
}
