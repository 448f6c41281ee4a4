import { CodecPool, type LayerRange, type PagePool, wireDescriptor, wirePageBytes } from '@causeway/kv';
import { NativeBuffer } from '@causeway/ort';
import type { BlockPlace } from './slot-packer.ts';

/** Of the first part in its buffer. */
const ALIGNMENT = 64;

/** Which bytes of a page in wire order are staged, f32: all of them, or those of a group of layers. */
export interface StagedPart {
  layers?: LayerRange | undefined;
  /** Bytes from the start of one block's part to the next one's. */
  stride: number;
  /** Bytes of a page before the part. */
  before: number;
}

/**
 * Between slots and pages in a chip's own storage: a few pages of f32 in wire order, which graphs read and write, and threads that
 * convert them to and from the pool's. The parts of a run's blocks follow one another from `start` on.
 */
export class PageStage implements AsyncDisposable {
  readonly buffer: NativeBuffer;
  /** Blocks that fit. */
  readonly blocks: number;
  /** Bytes of the buffer before the first part: room for what of its page comes before it. */
  readonly start: number;
  /** Bytes of a page in wire order. */
  readonly pageBytes: number;
  readonly #codecs: CodecPool;
  readonly #converter: number;
  readonly #regions: { pool: number; stage: number };
  readonly #poolPageBytes: number;

  constructor(pool: PagePool, bytes: number) {
    this.#poolPageBytes = pool.pageBytes;
    this.pageBytes = wirePageBytes(wireDescriptor(pool.descriptor, { dtype: 'f32' }));
    this.start = Math.ceil(this.pageBytes / ALIGNMENT) * ALIGNMENT;
    this.blocks = Math.max(1, Math.floor(bytes / this.pageBytes));
    this.buffer = NativeBuffer.allocate(2 * this.start + this.blocks * this.pageBytes);
    this.#codecs = new CodecPool({ threads: 1 });
    this.#regions = { pool: this.#codecs.register(pool.buffer), stage: this.#codecs.register(this.buffer) };
    this.#converter = this.#codecs.converter(pool.descriptor, { dtype: 'f32' });
    this.#codecs.warm();
  }

  /** Stage to pages: rounds to what the pages hold. */
  store(blocks: readonly BlockPlace[], part: StagedPart): Promise<number> {
    return this.#convert('fromWire', blocks, part);
  }

  /** Pages to stage: exact. */
  load(blocks: readonly BlockPlace[], part: StagedPart): Promise<number> {
    return this.#convert('toWire', blocks, part);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#codecs[Symbol.asyncDispose]();
    this.buffer[Symbol.dispose]();
  }

  #convert(way: 'toWire' | 'fromWire', blocks: readonly BlockPlace[], part: StagedPart): Promise<number> {
    return this.#codecs.convert({
      way,
      converter: this.#converter,
      pageRegion: this.#regions.pool,
      wireRegion: this.#regions.stage,
      pageBytes: this.#poolPageBytes,
      wireBytes: this.pageBytes,
      blocks: blocks.map(({ page }, i) => ({
        page: page * this.#poolPageBytes,
        wire: this.start + i * part.stride - part.before,
      })),
      layers: part.layers,
    });
  }
}
