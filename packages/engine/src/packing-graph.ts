/**
 * The ONNX graphs that move KV between slots and pages, all layers or a group of neighbours, any number of blocks in one run.
 *
 * Slot arena of one section: f32 [rows * heads * capacity, width], element (row, head, token) at index
 * (row * heads + head) * capacity + token. Pool: storage dtype [pages, elements], a page being [section][token][head][dim]
 * (seam with packages/kv). A slot may be wider than a page (padding of latent heads): the rest is zero. Graphs see the pool as
 * lines of equal length, of which a page and the moved part of a page are whole numbers: one line a page when whole pages move.
 *
 * ScatterND copies nothing but the updates when its input and its output are bound to the same memory, which is how the packer
 * binds them: a run touches only the blocks it names.
 */
import { GraphBuilder, int, type Value } from '@causeway/onnx-graph';
import type { FloatDtype } from '@causeway/kv';

/** One section (K, V or latent of one layer) in slots and pages. Sizes in elements. */
export interface PackedSection {
  /** Name of the arena's tensor. */
  name: string;
  heads: number;
  /** Elements of one head of one token in the slot. */
  slotWidth: number;
  /** The same in a page; at most slotWidth. */
  pageWidth: number;
}

export interface PackingShape {
  /** What is moved: neighbours in the page. */
  sections: readonly PackedSection[];
  blockTokens: number;
  /** Tokens of one slot. */
  capacity: number;
  dtype: FloatDtype;
  /** Elements of a page, and those before the sections. */
  page: { elements: number; before: number };
}

/** Elements that one block of these sections takes in a page. */
export function blockElements(sections: readonly PackedSection[], blockTokens: number): number {
  return sections.reduce((sum, section) => sum + section.heads * section.pageWidth, 0) * blockTokens;
}

/** Elements of a page that are moved. */
export function movedElements({ sections, blockTokens }: PackingShape): number {
  return blockElements(sections, blockTokens);
}

/** The pool as lines of `width` elements: `perPage` a page, of which `count` from `first` on are moved. */
export function poolLines(shape: PackingShape): { width: number; perPage: number; first: number; count: number } {
  const { elements, before } = shape.page;
  const moved = movedElements(shape);
  const width = greatestCommonDivisor(greatestCommonDivisor(before, moved), elements);
  return { width, perPage: elements / width, first: before / width, count: moved / width };
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/**
 * Slots to pages. Inputs: arenas, `rows` i64 [n] and `tokens` i64 [n] (slot row and first token of each block), `pages` i64
 * [n, 1], `pool`. Output: `pool_out`, bound to the pool.
 */
export function packGraph(shape: PackingShape): Uint8Array {
  const graph = new GraphBuilder('pack');
  const { width } = poolLines(shape);
  const lines = pageLines(graph, shape);
  const pool = graph.input('pool', shape.dtype, ['lines', width]);
  const stored = cast(graph, slotBlocks(graph, shape), 'f32', shape.dtype);
  const updates = width === movedElements(shape) ? stored : graph.op('Reshape', [stored, graph.int64s(-1, width)]);
  graph.node('ScatterND', [pool, lines, updates], { outputs: ['pool_out'] });
  graph.output('pool_out', shape.dtype, ['lines', width]);
  return graph.serialize();
}

/**
 * Pages to slots. Inputs: `pool`, `pages` i64 [n, 1], `rows`, `tokens` as above, arenas. Outputs: `<arena>_out`, bound to the arenas.
 */
export function unpackGraph(shape: PackingShape): Uint8Array {
  const graph = new GraphBuilder('unpack');
  const parts = graph.node('Split', [pageBlocks(graph, shape), graph.int64s(...partSizes(shape))], {
    outputs: shape.sections.map((section) => `${section.name}_part`),
    attributes: { axis: int(1) },
  });
  scatterBlocks(graph, shape, parts);
  return graph.serialize();
}

/** Slots of a device to `blocks` f32 [n, moved elements], in page order. Inputs: arenas, `rows`, `tokens` as above. */
export function gatherGraph(shape: PackingShape): Uint8Array {
  const graph = new GraphBuilder('gather');
  graph.output(graph.rename(slotBlocks(graph, shape), 'blocks'), 'f32', ['n', movedElements(shape)]);
  return graph.serialize();
}

/**
 * The reverse: `blocks`, `rows` and `tokens` to slots. Outputs: `<arena>_out`, bound to the arenas. A kernel of a device has a dozen
 * buffers at most, so that one Split cannot give the parts of many layers.
 */
export function scatterGraph(shape: PackingShape): Uint8Array {
  const graph = new GraphBuilder('scatter');
  const blocks = graph.input('blocks', 'f32', ['n', movedElements(shape)]);
  let start = 0;
  const parts = partSizes(shape).map((size) => {
    const first = start;
    start += size;
    return graph.op('Slice', [blocks, graph.int64s(first), graph.int64s(start), graph.int64s(1)]);
  });
  scatterBlocks(graph, shape, parts);
  return graph.serialize();
}

/** Elements of each section's part of a block. */
function partSizes({ sections, blockTokens }: PackingShape): number[] {
  return sections.map(({ heads, pageWidth }) => heads * pageWidth * blockTokens);
}

/** Writes the sections' parts of the named blocks, each f32 [n, its elements], into the slots. */
function scatterBlocks(graph: GraphBuilder, shape: PackingShape, parts: readonly Value[]): void {
  const indices = new SlotIndices(graph, shape);
  shape.sections.forEach((section, i) => {
    const arena = arenaInput(graph, section);
    const rows = graph.op('Reshape', [parts[i] as Value, graph.int64s(-1, section.pageWidth)]);
    const update =
      section.slotWidth === section.pageWidth
        ? rows
        : graph.op('Pad', [rows, graph.int64s(0, 0, 0, section.slotWidth - section.pageWidth)]);
    const index = graph.op('Reshape', [indices.of(section.heads), graph.int64s(-1, 1)]);
    graph.node('ScatterND', [arena, index, update], { outputs: [`${section.name}_out`] });
    graph.output(`${section.name}_out`, 'f32', [`${section.name}_rows`, section.slotWidth]);
  });
}

/**
 * For the debug check: the same blocks as slots hold them and as pages decode. Inputs: all of `unpackGraph`'s. Outputs: `slots`
 * and `decoded`, f32 [n, moved elements].
 */
export function compareGraph(shape: PackingShape): Uint8Array {
  const graph = new GraphBuilder('compare');
  const decoded = pageBlocks(graph, shape);
  graph.rename(slotBlocks(graph, shape), 'slots');
  graph.rename(decoded, 'decoded');
  for (const name of ['slots', 'decoded']) graph.output(name, 'f32', ['n', movedElements(shape)]);
  return graph.serialize();
}

/** f32 [n, moved elements]: the named blocks of the slots, in page order. */
function slotBlocks(graph: GraphBuilder, shape: PackingShape): Value {
  const indices = new SlotIndices(graph, shape);
  const parts = shape.sections.map((section) => {
    const gathered = graph.op('Gather', [arenaInput(graph, section), indices.of(section.heads)], { axis: int(0) });
    const trimmed =
      section.slotWidth === section.pageWidth
        ? gathered
        : graph.op('Slice', [gathered, graph.int64s(0), graph.int64s(section.pageWidth), graph.int64s(3)]);
    return graph.op('Reshape', [trimmed, graph.int64s(-1, shape.blockTokens * section.heads * section.pageWidth)]);
  });
  return graph.op('Concat', parts, { axis: int(1) });
}

/** f32 [n, moved elements]: the named pages, decoded. */
function pageBlocks(graph: GraphBuilder, shape: PackingShape): Value {
  const pool = graph.input('pool', shape.dtype, ['lines', poolLines(shape).width]);
  const gathered = graph.op('Gather', [pool, pageLines(graph, shape)], { axis: int(0) });
  const stored = graph.op('Reshape', [gathered, graph.int64s(-1, movedElements(shape))]);
  return cast(graph, stored, shape.dtype, 'f32');
}

/** i64 [n * count, 1]: the lines of the pool that the named pages' moved parts are. */
function pageLines(graph: GraphBuilder, shape: PackingShape): Value {
  const { perPage, first, count } = poolLines(shape);
  const pages = graph.input('pages', 'i64', ['n', 1]);
  if (perPage === 1) return pages;
  const offsets = BigInt64Array.from({ length: count }, (_, i) => BigInt(first + i));
  const starts = graph.op('Mul', [pages, graph.int64s(perPage)]);
  const lines = graph.op('Add', [starts, graph.constant('line_offsets', 'i64', [1, count], offsets)]);
  return graph.op('Reshape', [lines, graph.int64s(-1, 1)]);
}

function arenaInput(graph: GraphBuilder, section: PackedSection): Value {
  return graph.input(section.name, 'f32', [`${section.name}_rows`, section.slotWidth]);
}

const ONNX_TYPE: Readonly<Record<FloatDtype, number>> = { f32: 1, f16: 10, bf16: 16 };

/** Rounds to nearest, ties to even; f32 to f32 is no node at all. */
function cast(graph: GraphBuilder, value: Value, from: FloatDtype, to: FloatDtype): Value {
  return from === to ? value : graph.op('Cast', [value], { to: int(ONNX_TYPE[to]) });
}

/** Arena indices i64 [n, blockTokens, heads] of the named blocks; layers with equal head counts share them. */
class SlotIndices {
  readonly #graph: GraphBuilder;
  readonly #shape: PackingShape;
  readonly #rows: Value;
  readonly #tokens: Value;
  readonly #byHeads = new Map<number, Value>();

  constructor(graph: GraphBuilder, shape: PackingShape) {
    this.#graph = graph;
    this.#shape = shape;
    this.#rows = graph.input('rows', 'i64', ['n']);
    this.#tokens = graph.input('tokens', 'i64', ['n']);
  }

  of(heads: number): Value {
    const known = this.#byHeads.get(heads);
    if (known !== undefined) return known;
    const graph = this.#graph;
    const { capacity, blockTokens } = this.#shape;
    const starts = graph.op('Add', [graph.op('Mul', [this.#rows, graph.int64s(heads * capacity)]), this.#tokens]);
    const offsets = BigInt64Array.from({ length: blockTokens * heads }, (_, i) =>
      BigInt((i % heads) * capacity + Math.floor(i / heads)),
    );
    const offset = graph.constant(`offsets_${heads}`, 'i64', [1, blockTokens, heads], offsets);
    const value = graph.op('Add', [graph.op('Reshape', [starts, graph.int64s(-1, 1, 1)]), offset]);
    this.#byHeads.set(heads, value);
    return value;
  }
}
