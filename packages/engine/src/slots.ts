import { type KvDescriptor, layerSections } from '@causeway/kv';
import { cacheShape } from '@causeway/models';
import { NativeBuffer, Tensor } from '@causeway/ort';
import type { LoopTime } from './loop-time.ts';
import type { PackedSection } from './packing-graph.ts';

/** Slots hold f32. */
const ELEMENT_BYTES = 4;

/** One section (K, V or latent) of one layer in all slots: an arena f32 [rows, heads, capacity, slotWidth]. */
export interface SlotSection extends PackedSection {
  layer: number;
  /** Graph inputs and outputs bound to it: past_k.<layer>, ...; a latent layer binds K and V to the same arena. */
  pastNames: readonly string[];
  presentNames: readonly string[];
  buffer: NativeBuffer;
}

export interface SlotOptions {
  descriptor: Pick<KvDescriptor, 'layers'>;
  /** Sequences decoded together at most. */
  maxSequences: number;
  /** Tokens of one slot, a multiple of the block size. */
  capacity: number;
}

/**
 * The contiguous caches that the graphs read and write in place. Rows 0 .. maxSequences - 1 belong to running sequences, always a
 * dense prefix, so that one run serves them all; `prefillRow` belongs to the prompt being read, and no decode run touches it. Memory is address space until written, and is given back when a row is freed.
 */
export class Slots implements Disposable {
  readonly rows: number;
  readonly prefillRow: number;
  readonly capacity: number;
  readonly sections: readonly SlotSection[];
  /** Address space of all arenas. */
  readonly byteLength: number;
  readonly #time: LoopTime;

  constructor(options: SlotOptions, time: LoopTime) {
    this.prefillRow = options.maxSequences;
    this.rows = options.maxSequences + 1;
    this.capacity = options.capacity;
    this.#time = time;
    this.sections = options.descriptor.layers.flatMap((geometry, layer) => {
      const { heads, width } = cacheShape(geometry);
      return layerSections(geometry).map((section) => {
        const keys = section.name === 'latent' ? ['k', 'v'] : [section.name];
        return {
          layer,
          name: `${section.name}.${layer}`,
          heads,
          slotWidth: width,
          pageWidth: section.width / section.heads,
          pastNames: keys.map((key) => `past_${key}.${layer}`),
          presentNames: keys.map((key) => `present_${key}.${layer}`),
          buffer: NativeBuffer.allocate(this.rows * heads * options.capacity * width * ELEMENT_BYTES),
        };
      });
    });
    this.byteLength = this.sections.reduce((sum, section) => sum + section.buffer.byteLength, 0);
  }

  /** Caches of rows [firstRow, firstRow + count): f32 [count, heads, capacity, slotWidth]. */
  tensor(section: SlotSection, firstRow: number, count: number): Tensor {
    const shape = [count, section.heads, this.capacity, section.slotWidth];
    return Tensor.of(section.buffer, firstRow * this.#rowBytes(section), 'f32', shape);
  }

  /** The whole arena as lines of one head of one token: f32 [rows * heads * capacity, slotWidth]. */
  arena(section: SlotSection): Tensor {
    return Tensor.of(section.buffer, 0, 'f32', [this.rows * section.heads * this.capacity, section.slotWidth]);
  }

  /** Gives a freed row's memory back to the operating system; it reads as zero afterwards. */
  async discard(row: number): Promise<void> {
    for (const section of this.sections) {
      const bytes = this.#rowBytes(section);
      this.#time.section('discard slot', () => section.buffer.discard(row * bytes, bytes));
      await this.#time.breathe();
    }
  }

  /** Fills a row with NaN (debug): whatever is read without being filled first shows. */
  async poison(row: number): Promise<void> {
    for (const section of this.sections) {
      const bytes = this.#rowBytes(section);
      const view = section.buffer.bytes(row * bytes, bytes);
      new Float32Array(view.buffer, view.byteOffset, bytes / ELEMENT_BYTES).fill(Number.NaN);
      await this.#time.pause();
    }
  }

  [Symbol.dispose](): void {
    for (const section of this.sections) section.buffer[Symbol.dispose]();
  }

  #rowBytes(section: SlotSection): number {
    return section.heads * this.capacity * section.slotWidth * ELEMENT_BYTES;
  }
}
