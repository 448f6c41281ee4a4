import { fail } from '@causeway/errors';
import { isFloat, type LayerRange, type PagePool } from '@causeway/kv';
import { type Binding, NativeBuffer, type Runtime, type Session, Tensor } from '@causeway/ort';
import type { LoopTime } from './loop-time.ts';
import {
  blockElements,
  compareGraph,
  movedElements,
  packGraph,
  type PackingShape,
  poolLines,
  unpackGraph,
} from './packing-graph.ts';
import type { PageStage, StagedPart } from './page-stage.ts';
import type { BlockPlace, SlotPacker } from './slot-packer.ts';
import type { Slots, SlotSection } from './slots.ts';

/** Temporary memory of one packing run, in bytes of f32. */
const RUN_BYTES = 8 << 20;
const MAX_BLOCKS = 1024;
const I64 = 8;

export interface PackerOptions {
  runtime: Runtime;
  slots: Slots;
  pool: PagePool;
  time: LoopTime;
  /** Which layers it moves; default all. */
  layers?: LayerRange;
  /** Adds the debug check. */
  compare: boolean;
  /** For pages that are not in wire order. */
  stage?: PageStage | undefined;
}

/** Moves KV between slots and pages in this process's memory, in ONNX Runtime's threads. */
export class Packer implements SlotPacker {
  readonly #time: LoopTime;
  readonly #shape: PackingShape;
  readonly #maxBlocks: number;
  readonly #stage: PageStage | undefined;
  readonly #slots: Slots;
  /** Whole pages are staged, of which the layers' part is moved. */
  readonly #part: StagedPart;
  readonly #rows: NativeBuffer;
  readonly #tokens: NativeBuffer;
  readonly #pages: NativeBuffer;
  readonly #resources = new AsyncDisposableStack();
  readonly #pack: Conversion;
  readonly #unpack: Conversion;
  readonly #compare: Conversion | undefined;
  readonly #compared: { slots: NativeBuffer; decoded: NativeBuffer } | undefined;

  /** Compiles the graphs. */
  static async create(o: PackerOptions): Promise<Packer> {
    const sections = sectionsOf(o.slots, o.layers);
    const shape = packingShape(o, sections);
    const graphs = [packGraph(shape), unpackGraph(shape), ...(o.compare ? [compareGraph(shape)] : [])];
    const sessions: Session[] = [];
    try {
      for (const graph of graphs) sessions.push(await o.runtime.createSession(graph));
      return new Packer(o, shape, sections, sessions);
    } catch (error) {
      for (const session of sessions) await session[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(o: PackerOptions, shape: PackingShape, sections: readonly SlotSection[], sessions: Session[]) {
    const resources = this.#resources;
    const elements = movedElements(shape);
    const { width, perPage } = poolLines(shape);
    this.#time = o.time;
    this.#shape = shape;
    this.#stage = o.stage;
    this.#slots = o.slots;
    this.#part = { layers: o.layers, stride: o.stage?.pageBytes ?? 0, before: 0 };
    this.#maxBlocks = Math.min(MAX_BLOCKS, o.stage?.blocks ?? MAX_BLOCKS, Math.max(1, Math.floor(RUN_BYTES / (elements * 4))));
    const allocate = (bytes: number) => resources.use(NativeBuffer.allocate(bytes));
    this.#rows = allocate(this.#maxBlocks * I64);
    this.#tokens = allocate(this.#maxBlocks * I64);
    this.#pages = allocate(this.#maxBlocks * I64);
    const pages = o.stage === undefined ? o.pool.totalPages : o.stage.blocks;
    const buffer = o.stage?.buffer ?? o.pool.buffer;
    const pool = resources.use(Tensor.of(buffer, o.stage?.start ?? 0, shape.dtype, [pages * perPage, width]));
    const arenas = sections.map((section) => ({ name: section.name, tensor: resources.use(o.slots.arena(section)) }));
    const [pack, unpack, compare] = sessions.map((session) => {
      resources.use(session);
      return { session, binding: resources.use(session.createBinding()), blocks: 0, tensors: [] } satisfies Conversion;
    });
    if (pack === undefined || unpack === undefined) fail('internal', 'internal', 'packing sessions are missing');
    this.#pack = pack;
    this.#unpack = unpack;
    this.#compare = compare;
    for (const conversion of [pack, unpack, compare]) {
      conversion?.binding.input('pool', pool);
      for (const { name, tensor } of arenas) conversion?.binding.input(name, tensor);
    }
    pack.binding.output('pool_out', pool);
    for (const { name, tensor } of arenas) unpack.binding.output(`${name}_out`, tensor);
    if (compare !== undefined) {
      const bytes = this.#maxBlocks * elements * 4;
      this.#compared = { slots: allocate(bytes), decoded: allocate(bytes) };
    }
  }

  async pack(blocks: readonly BlockPlace[]): Promise<void> {
    for (const group of this.#groups(blocks)) {
      await this.#run(this.#pack, group);
      if (this.#stage !== undefined) await this.#time.elsewhere(this.#stage.store(group, this.#part));
    }
  }

  async unpack(blocks: readonly BlockPlace[]): Promise<void> {
    for (const group of this.#groups(blocks)) {
      await this.#load(group);
      await this.#run(this.#unpack, group);
    }
  }

  async difference(blocks: readonly BlockPlace[]): Promise<BlockPlace | undefined> {
    const elements = movedElements(this.#shape);
    for (const group of this.#groups(blocks)) {
      const compare = this.#compare;
      const buffers = this.#compared;
      if (compare === undefined || buffers === undefined) fail('internal', 'internal', 'the page check is not compiled in');
      using slots = Tensor.of(buffers.slots, 0, 'f32', [group.length, elements]);
      using decoded = Tensor.of(buffers.decoded, 0, 'f32', [group.length, elements]);
      await this.#load(group);
      compare.binding.output('slots', slots).output('decoded', decoded);
      await this.#run(compare, group);
      const bytes = elements * 4;
      const at = group.findIndex(
        (_, i) => Buffer.compare(buffers.slots.bytes(i * bytes, bytes), buffers.decoded.bytes(i * bytes, bytes)) !== 0,
      );
      if (at >= 0) return group[at];
    }
    return undefined;
  }

  poison(row: number): Promise<void> {
    return this.#slots.poison(row);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const conversion of [this.#pack, this.#unpack, this.#compare]) {
      for (const tensor of conversion?.tensors.splice(0) ?? []) tensor[Symbol.dispose]();
    }
    await this.#resources.disposeAsync();
  }

  async #load(blocks: readonly BlockPlace[]): Promise<void> {
    if (this.#stage !== undefined) await this.#time.elsewhere(this.#stage.load(blocks, this.#part));
  }

  async #run(conversion: Conversion, blocks: readonly BlockPlace[]): Promise<void> {
    this.#time.section('bind pages', () => {
      write(this.#rows, blocks, (block) => block.row);
      write(this.#tokens, blocks, (block) => block.token);
      write(this.#pages, blocks, (block, i) => (this.#stage === undefined ? block.page : i));
      if (conversion.blocks === blocks.length) return;
      const old = conversion.tensors.splice(0);
      const bind = (name: string, buffer: NativeBuffer, shape: readonly number[]) => {
        const tensor = Tensor.of(buffer, 0, 'i64', shape);
        conversion.tensors.push(tensor);
        conversion.binding.input(name, tensor);
      };
      bind('rows', this.#rows, [blocks.length]);
      bind('tokens', this.#tokens, [blocks.length]);
      bind('pages', this.#pages, [blocks.length, 1]);
      conversion.blocks = blocks.length;
      for (const tensor of old) tensor[Symbol.dispose]();
    });
    await this.#time.elsewhere(conversion.session.run(conversion.binding));
  }

  *#groups(blocks: readonly BlockPlace[]): Generator<readonly BlockPlace[]> {
    for (let start = 0; start < blocks.length; start += this.#maxBlocks) yield blocks.slice(start, start + this.#maxBlocks);
  }
}

interface Conversion {
  session: Session;
  binding: Binding;
  /** Blocks that `tensors` are shaped for. */
  blocks: number;
  tensors: Tensor[];
}

/** The sections of some layers, all by default. */
export function sectionsOf(slots: Slots, layers: LayerRange | undefined): readonly SlotSection[] {
  if (layers === undefined) return slots.sections;
  const end = layers.firstLayer + layers.layerCount;
  return slots.sections.filter(({ layer }) => layer >= layers.firstLayer && layer < end);
}

function packingShape({ slots, pool, stage }: PackerOptions, sections: readonly SlotSection[]): PackingShape {
  const { dtype, blockTokens } = pool.descriptor.storage;
  if (stage === undefined && !isFloat(dtype)) fail('internal', 'internal', `pages of ${dtype} need a stage`);
  const [first] = sections;
  if (first === undefined) fail('internal', 'internal', 'a packer needs layers that keep KV');
  const before = slots.sections.slice(0, slots.sections.indexOf(first));
  return {
    sections,
    blockTokens,
    capacity: slots.capacity,
    dtype: stage === undefined && isFloat(dtype) ? dtype : 'f32',
    page: { elements: blockElements(slots.sections, blockTokens), before: blockElements(before, blockTokens) },
  };
}

function write(buffer: NativeBuffer, blocks: readonly BlockPlace[], value: (block: BlockPlace, i: number) => number): void {
  const bytes = buffer.bytes();
  const target = new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / I64);
  blocks.forEach((block, i) => {
    target[i] = BigInt(value(block, i));
  });
}
