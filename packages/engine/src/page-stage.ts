import { CodecPool, type LayerRange, type PagePool, wireDescriptor, wirePageBytes } from '@causeway/kv';
import { NativeBuffer } from '@causeway/ort';
import type { BlockPlace } from './packing.ts';

/**
 * Between slots and pages in a chip's own storage: a few pages of f32 in wire order, which graphs read and write, and threads that
 * convert them to and from the pool's. Page i of the stage belongs to the i-th block of a run.
 */
export class PageStage implements AsyncDisposable {
  readonly buffer: NativeBuffer;
  /** Blocks that fit. */
  readonly blocks: number;
  readonly #codecs: CodecPool;
  readonly #converter: number;
  readonly #regions: { pool: number; stage: number };
  readonly #pageBytes: number;
  readonly #wireBytes: number;

  constructor(pool: PagePool, bytes: number) {
    this.#pageBytes = pool.pageBytes;
    this.#wireBytes = wirePageBytes(wireDescriptor(pool.descriptor, { dtype: 'f32' }));
    this.blocks = Math.max(1, Math.floor(bytes / this.#wireBytes));
    this.buffer = NativeBuffer.allocate(this.blocks * this.#wireBytes);
    this.#codecs = new CodecPool({ threads: 1 });
    this.#regions = { pool: this.#codecs.register(pool.buffer), stage: this.#codecs.register(this.buffer) };
    this.#converter = this.#codecs.converter(pool.descriptor, { dtype: 'f32' });
    this.#codecs.warm();
  }

  /** Stage to pages: rounds to what the pages hold. */
  store(blocks: readonly BlockPlace[], layers?: LayerRange): Promise<number> {
    return this.#convert('fromWire', blocks, layers);
  }

  /** Pages to stage: exact. */
  load(blocks: readonly BlockPlace[], layers?: LayerRange): Promise<number> {
    return this.#convert('toWire', blocks, layers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#codecs[Symbol.asyncDispose]();
    this.buffer[Symbol.dispose]();
  }

  #convert(way: 'toWire' | 'fromWire', blocks: readonly BlockPlace[], layers: LayerRange | undefined): Promise<number> {
    return this.#codecs.convert({
      way,
      converter: this.#converter,
      pageRegion: this.#regions.pool,
      wireRegion: this.#regions.stage,
      pageBytes: this.#pageBytes,
      wireBytes: this.#wireBytes,
      blocks: blocks.map(({ page }, i) => ({ page: page * this.#pageBytes, wire: i * this.#wireBytes })),
      layers,
    });
  }
}
