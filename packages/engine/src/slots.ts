import { type KvDescriptor, layerSections } from '@causeway/kv';
import { cacheShape } from '@causeway/models';
import { type DeviceMemory, NativeBuffer, Tensor, type TensorMemory } from '@causeway/ort';
import type { LoopTime } from './loop-time.ts';
import type { PackedSection } from './packing-graph.ts';

/** Slots hold f32. */
const ELEMENT_BYTES = 4;

/** One section (K, V or latent) of one layer in all slots: f32 [rows, heads, capacity, slotWidth], in the pieces that `Slots.regions` says. */
export interface SlotSection extends PackedSection {
  layer: number;
  /** Graph inputs and outputs bound to it: past_k.<layer>, ...; a latent layer binds K and V to the same arena. */
  pastNames: readonly string[];
  presentNames: readonly string[];
  /** One per region. */
  memories: readonly TensorMemory[];
}

/** Neighbouring rows whose memory is one piece. */
export interface SlotRegion {
  firstRow: number;
  rows: number;
}

export interface SlotOptions {
  descriptor: Pick<KvDescriptor, 'layers'>;
  /** Sequences decoded together at most. */
  maxSequences: number;
  /** Tokens of one slot, a multiple of the block size. */
  capacity: number;
  /** Where the slots lie; default: this process's memory. */
  device?: DeviceMemory | undefined;
  /** No run serves several sequences. */
  apart?: boolean;
}

/** Regions of the running sequences' rows on a device. */
function rowsOf(count: number, apart: boolean): SlotRegion[] {
  return apart ? Array.from({ length: count }, (_, row) => ({ firstRow: row, rows: 1 })) : [{ firstRow: 0, rows: count }];
}

/**
 * The contiguous caches that the graphs read and write in place. Rows 0 .. maxSequences - 1 belong to running sequences, always a
 * dense prefix, so that one run serves them all; `prefillRow` belongs to the prompt being read, and no decode run touches it. Memory of
 * this process is address space until written, and is given back when a row is freed. A device's is taken whole; its buffers are handles
 * of which no part can be named, so that the prefill row is a region of its own there, and each row where sequences run apart.
 */
export class Slots implements Disposable {
  readonly rows: number;
  readonly prefillRow: number;
  readonly capacity: number;
  readonly sections: readonly SlotSection[];
  readonly regions: readonly SlotRegion[];
  /** Address space of all arenas, or bytes of the device. */
  readonly byteLength: number;
  readonly #time: LoopTime;
  readonly #resources = new DisposableStack();

  /** @throws ServiceError `resource_exhausted` when the memory is not there; nothing stays allocated then. */
  constructor(options: SlotOptions, time: LoopTime) {
    const { maxSequences, capacity, device } = options;
    this.prefillRow = maxSequences;
    this.rows = maxSequences + 1;
    this.capacity = capacity;
    this.#time = time;
    this.regions =
      device === undefined
        ? [{ firstRow: 0, rows: this.rows }]
        : [...rowsOf(maxSequences, options.apart === true), { firstRow: this.prefillRow, rows: 1 }];
    const allocate = (bytes: number): TensorMemory =>
      this.#resources.use(device === undefined ? NativeBuffer.allocate(bytes) : device.allocate(bytes));
    try {
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
            memories: this.regions.map(({ rows }) => allocate(rows * heads * capacity * width * ELEMENT_BYTES)),
          };
        });
      });
    } catch (error) {
      this.#resources.dispose();
      throw error;
    }
    this.byteLength = this.sections.reduce((sum, section) => sum + this.rows * this.#rowBytes(section), 0);
  }

  /** Caches of rows [firstRow, firstRow + count): f32 [count, heads, capacity, slotWidth]. */
  tensor(section: SlotSection, firstRow: number, count: number): Tensor {
    const shape = [count, section.heads, this.capacity, section.slotWidth];
    const { memory, row } = this.#place(section, firstRow);
    return Tensor.of(memory, row * this.#rowBytes(section), 'f32', shape);
  }

  /** All of a region as lines of one head of one token: f32 [rows * heads * capacity, slotWidth]. */
  arena(section: SlotSection, region = 0): Tensor {
    const { rows } = this.regions[region] as SlotRegion;
    const memory = section.memories[region] as TensorMemory;
    return Tensor.of(memory, 0, 'f32', [rows * section.heads * this.capacity, section.slotWidth]);
  }

  /** The region of a row. */
  regionOf(row: number): number {
    return this.regions.findIndex(({ firstRow, rows }) => row >= firstRow && row < firstRow + rows);
  }

  /** Gives a freed row's memory back to the operating system; it reads as zero afterwards. A device keeps what it has. */
  async discard(row: number): Promise<void> {
    for (const section of this.sections) {
      const bytes = this.#rowBytes(section);
      const { memory, row: at } = this.#place(section, row);
      if (!(memory instanceof NativeBuffer)) return;
      this.#time.section('discard slot', () => memory.discard(at * bytes, bytes));
      await this.#time.breathe();
    }
  }

  /** Fills a row of this process's memory with NaN (debug): whatever is read without being filled first shows. */
  async poison(row: number): Promise<void> {
    for (const section of this.sections) {
      const bytes = this.#rowBytes(section);
      const { memory, row: at } = this.#place(section, row);
      if (!(memory instanceof NativeBuffer)) return;
      const view = memory.bytes(at * bytes, bytes);
      new Float32Array(view.buffer, view.byteOffset, bytes / ELEMENT_BYTES).fill(Number.NaN);
      await this.#time.pause();
    }
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }

  #place(section: SlotSection, row: number): { memory: TensorMemory; row: number } {
    const region = this.regionOf(row);
    return { memory: section.memories[region] as TensorMemory, row: row - (this.regions[region] as SlotRegion).firstRow };
  }

  #rowBytes(section: SlotSection): number {
    return section.heads * this.capacity * section.slotWidth * ELEMENT_BYTES;
  }
}
