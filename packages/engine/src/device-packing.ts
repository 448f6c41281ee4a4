import { fail } from '@causeway/errors';
import type { LayerRange } from '@causeway/kv';
import { type Binding, NativeBuffer, type Runtime, type Session, Tensor } from '@causeway/ort';
import type { LoopTime } from './loop-time.ts';
import { sectionsOf } from './packing.ts';
import { blockElements, gatherGraph, movedElements, type PackingShape, scatterGraph } from './packing-graph.ts';
import type { PageStage, StagedPart } from './page-stage.ts';
import type { BlockPlace, SlotPacker } from './slot-packer.ts';
import type { SlotRegion, Slots } from './slots.ts';

const F32 = 4;
const I64 = 8;
/** Blocks of one run at most. */
const MAX_BLOCKS = 1024;

export interface DevicePackerOptions {
  runtime: Runtime;
  /** Whose memory the slots are in. */
  provider: string;
  slots: Slots;
  blockTokens: number;
  time: LoopTime;
  stage: PageStage;
  /** Which layers it moves; default all. */
  layers?: LayerRange | undefined;
}

/** One graph bound to one region of the slots. */
interface RegionRun {
  session: Session;
  binding: Binding;
}

/**
 * Moves KV between slots in a device's memory and pages in this process's: a graph on the device gathers the blocks of all layers into
 * one tensor, which is all that is copied, and the stage's threads store it; and the other way round.
 */
export class DevicePacker implements SlotPacker {
  readonly #time: LoopTime;
  readonly #slots: Slots;
  readonly #stage: PageStage;
  readonly #shape: PackingShape;
  readonly #part: StagedPart;
  readonly #maxBlocks: number;
  readonly #rows: NativeBuffer;
  readonly #tokens: NativeBuffer;
  readonly #gather: readonly RegionRun[];
  readonly #scatter: readonly RegionRun[];
  readonly #resources = new AsyncDisposableStack();

  /** Compiles the graphs. @throws ServiceError `runtime` with the provider's message. */
  static async create(o: DevicePackerOptions): Promise<DevicePacker> {
    const sections = sectionsOf(o.slots, o.layers);
    const [first] = sections;
    if (first === undefined) fail('internal', 'internal', 'a packer needs layers that keep KV');
    const { blockTokens } = o;
    const before = o.slots.sections.slice(0, o.slots.sections.indexOf(first));
    const shape: PackingShape = {
      sections,
      blockTokens,
      capacity: o.slots.capacity,
      dtype: 'f32',
      page: { elements: blockElements(o.slots.sections, blockTokens), before: blockElements(before, blockTokens) },
    };
    const gather = await o.runtime.createSession(gatherGraph(shape), { provider: o.provider });
    try {
      const scatter = await o.runtime.createSession(scatterGraph(shape), { provider: o.provider });
      return new DevicePacker(o, shape, gather, scatter);
    } catch (error) {
      await gather[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(o: DevicePackerOptions, shape: PackingShape, gather: Session, scatter: Session) {
    const resources = this.#resources;
    const moved = movedElements(shape) * F32;
    this.#time = o.time;
    this.#slots = o.slots;
    this.#stage = o.stage;
    this.#shape = shape;
    this.#part = { layers: o.layers, stride: moved, before: shape.page.before * F32 };
    this.#maxBlocks = Math.min(MAX_BLOCKS, o.stage.blocks);
    this.#rows = resources.use(NativeBuffer.allocate(this.#maxBlocks * I64));
    this.#tokens = resources.use(NativeBuffer.allocate(this.#maxBlocks * I64));
    for (const session of [gather, scatter]) resources.use(session);
    const run = (session: Session, region: number, writes: boolean): RegionRun => {
      const binding = resources.use(session.createBinding());
      for (const section of sectionsOf(o.slots, o.layers)) {
        const arena = resources.use(o.slots.arena(section, region));
        binding.input(section.name, arena);
        if (writes) binding.output(`${section.name}_out`, arena);
      }
      return { session, binding };
    };
    this.#gather = o.slots.regions.map((_, region) => run(gather, region, false));
    this.#scatter = o.slots.regions.map((_, region) => run(scatter, region, true));
  }

  async pack(blocks: readonly BlockPlace[]): Promise<void> {
    for (const { region, group } of this.#groups(blocks)) {
      await this.#run(this.#gather[region] as RegionRun, region, group);
      await this.#time.elsewhere(this.#stage.store(group, this.#part));
    }
  }

  async unpack(blocks: readonly BlockPlace[]): Promise<void> {
    for (const { region, group } of this.#groups(blocks)) {
      await this.#time.elsewhere(this.#stage.load(group, this.#part));
      await this.#run(this.#scatter[region] as RegionRun, region, group);
    }
  }

  async difference(blocks: readonly BlockPlace[]): Promise<BlockPlace | undefined> {
    const bytes = this.#part.stride;
    for (const { region, group } of this.#groups(blocks)) {
      await this.#time.elsewhere(this.#stage.load(group, this.#part));
      const decoded = this.#staged(group.length).slice();
      await this.#run(this.#gather[region] as RegionRun, region, group);
      const slots = this.#staged(group.length);
      const at = group.findIndex(
        (_, i) => Buffer.compare(slots.subarray(i * bytes, (i + 1) * bytes), decoded.subarray(i * bytes, (i + 1) * bytes)) !== 0,
      );
      if (at >= 0) return group[at];
    }
    return undefined;
  }

  async poison(row: number): Promise<void> {
    const { blockTokens, capacity } = this.#shape;
    const blocks = Array.from({ length: capacity / blockTokens }, (_, i) => ({ row, token: i * blockTokens, page: 0 }));
    for (const { region, group } of this.#groups(blocks)) {
      const staged = this.#staged(group.length);
      new Float32Array(staged.buffer, staged.byteOffset, staged.byteLength / F32).fill(Number.NaN);
      await this.#run(this.#scatter[region] as RegionRun, region, group);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  /** What the last run gathered, or the next one scatters: the parts of so many blocks. */
  #staged(blocks: number): Uint8Array {
    return this.#stage.buffer.bytes(this.#stage.start, blocks * this.#part.stride);
  }

  async #run({ session, binding }: RegionRun, region: number, blocks: readonly BlockPlace[]): Promise<void> {
    using tensors = new DisposableStack();
    this.#time.section('bind pages', () => {
      const { firstRow } = this.#slots.regions[region] as SlotRegion;
      write(this.#rows, blocks, ({ row }) => row - firstRow);
      write(this.#tokens, blocks, ({ token }) => token);
      const shape = [blocks.length, movedElements(this.#shape)];
      const staged = tensors.use(Tensor.of(this.#stage.buffer, this.#stage.start, 'f32', shape));
      binding.input('rows', tensors.use(Tensor.of(this.#rows, 0, 'i64', [blocks.length])));
      binding.input('tokens', tensors.use(Tensor.of(this.#tokens, 0, 'i64', [blocks.length])));
      if (session.inputs.some(({ name }) => name === 'blocks')) binding.input('blocks', staged);
      else binding.output('blocks', staged);
    });
    await this.#time.elsewhere(session.run(binding));
  }

  *#groups(blocks: readonly BlockPlace[]): Generator<{ region: number; group: readonly BlockPlace[] }> {
    for (const [region, of] of Map.groupBy(blocks, ({ row }) => this.#slots.regionOf(row))) {
      for (let start = 0; start < of.length; start += this.#maxBlocks) {
        yield { region, group: of.slice(start, start + this.#maxBlocks) };
      }
    }
  }
}

function write(buffer: NativeBuffer, blocks: readonly BlockPlace[], value: (block: BlockPlace) => number): void {
  const bytes = buffer.bytes();
  const target = new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / I64);
  blocks.forEach((block, i) => {
    target[i] = BigInt(value(block));
  });
}
