/**
 * One block of tokens between a page in a chip's own storage (page-form.ts) and a page in wire order (page-layout.ts). Where the types
 * agree bits are moved and nothing is computed; otherwise numbers go through f32. Shards write and read their own heads. All of it is done
 * in the kernels' memory (kernels.ts): bytes of pages are copied there and back in bulk.
 */
import { fail } from '@causeway/errors';
import { BlockRows } from './block-rows.ts';
import { DTYPE_BYTES, hasFactors, isFloat, type KvDescriptor, type KvWireForm } from './descriptor.ts';
import { kernels } from './kernels.ts';
import type { LayerRange } from './layer-groups.ts';
import { decodeNumbers, encodeNumbers } from './number-format.ts';
import { type PagedPart, pageForm, partBytes } from './page-form.ts';
import { pagedSections } from './page-size.ts';
import { FACTOR_BYTES, partNumberBytes, partRowBytes, shardParts, storedParts, type StoredPart } from './stored-parts.ts';
import { type OwnHeads, WireRows, type WirePart } from './wire-rows.ts';

/** Storage and wire parts of a layer that hold the same section. */
interface SectionPair extends OwnHeads {
  stored: PagedPart[];
  wire: WirePart[];
  /** Numbers of one head of the whole section. */
  width: number;
}

/** What is moved is moved in words of 4 bytes, of which heads are whole numbers. */
const WORD_BYTES = 4;
const F32_BYTES = 4;

/**
 * @throws ServiceError `descriptor_mismatch` for heads that are no whole number of words: storages in wire order may have such, and
 * travel as they are only
 */
export function checkConvertible({ layers, storage }: Pick<KvDescriptor, 'layers' | 'storage'>, wire: KvWireForm): void {
  const why = unconvertible({ layers, storage }, wire);
  if (why !== undefined) fail('failed_precondition', 'descriptor_mismatch', why);
}

/** Why checkConvertible would refuse; undefined: it would not. */
export function unconvertible(
  { layers, storage }: Pick<KvDescriptor, 'layers' | 'storage'>,
  wire: KvWireForm,
): string | undefined {
  for (const [index, layer] of layers.entries()) {
    for (const part of [...shardParts(layer, storage), ...storedParts(layer, wire)]) {
      if ((part.width * DTYPE_BYTES[part.dtype]) % WORD_BYTES === 0) continue;
      return `layer ${index}: heads of ${part.width} numbers of ${part.dtype} can't be converted to ${wire.dtype}`;
    }
  }
  return undefined;
}

/** Converts blocks of one storage to and from one wire form. Not reentrant. */
export class BlockConverter {
  readonly #layers: SectionPair[][];
  readonly #blockTokens: number;
  readonly #scales: { stored: number; wire: number };
  readonly #sizes: AreaSizes;

  constructor(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>, wire: KvWireForm) {
    const { storage } = descriptor;
    const forms = pageForm(descriptor);
    this.#blockTokens = storage.blockTokens;
    this.#scales = { stored: storage.scale ?? 1, wire: wire.scale ?? 1 };
    let offset = 0;
    this.#layers = descriptor.layers.map((layer, index) => {
      const sections = pagedSections(layer, wire);
      const parts = (forms[index]?.length ?? 0) === 0 ? [] : storedParts(layer, wire);
      const placed = parts.map((part): WirePart => {
        const rowBytes = partRowBytes(part);
        const at = offset;
        offset += rowBytes * storage.blockTokens;
        return { ...part, offset: at, rowBytes };
      });
      for (const { ratio, bytes } of sections.slice(parts.length)) offset += (storage.blockTokens / ratio) * bytes;
      return sectionPairs(forms[index] ?? [], placed);
    });
    this.#sizes = areaSizes(this.#layers.flat(), storage.blockTokens);
  }

  /** Storage to wire: the heads that the page holds. */
  toWire(page: Uint8Array, wire: Uint8Array, layers?: LayerRange): void {
    const areas = this.#areas();
    const [pageRows, wireRows] = [new BlockRows(page, areas.stage), new WireRows(wire, this.#blockTokens, areas.wire)];
    for (const pair of this.#range(layers)) {
      if (sameNumbers(pair, this.#scales)) {
        for (const [i, stored] of pair.stored.entries()) {
          const part = pair.wire[i] as WirePart;
          const { numbers, factors } = wireRows.places(part, stored);
          pageRows.read(stored, { at: numbers, stride: part.rowBytes }, { at: factors, stride: part.rowBytes });
          wireRows.flush(part, stored);
        }
        continue;
      }
      for (const part of pair.stored) {
        pageRows.read(part, packed(areas.numbers, part), packedFactors(areas.factors, part));
        this.#decode(part, this.#scales.stored, areas.numbers, pair, areas);
      }
      for (const part of pair.wire) {
        const own = { ...part, ...heads(pair) };
        if (part.dtype === 'f32' && part.width === pair.width) {
          wireRows.write(part, own, areas.rows, areas.factors);
          continue;
        }
        this.#encode(own, this.#scales.wire, pair, areas);
        wireRows.write(part, own, areas.numbers, areas.factors);
      }
    }
  }

  /** Wire to storage: the heads that the page holds. Rounds where the storage's type holds less. */
  fromWire(wire: Uint8Array, page: Uint8Array, layers?: LayerRange): void {
    const areas = this.#areas();
    const [pageRows, wireRows] = [new BlockRows(page, areas.stage), new WireRows(wire, this.#blockTokens, areas.wire)];
    for (const pair of this.#range(layers)) {
      if (sameNumbers(pair, this.#scales)) {
        for (const [i, stored] of pair.stored.entries()) {
          const part = pair.wire[i] as WirePart;
          wireRows.load(part, stored);
          const { numbers, factors } = wireRows.places(part, stored);
          pageRows.write(stored, { at: numbers, stride: part.rowBytes }, { at: factors, stride: part.rowBytes });
        }
        continue;
      }
      for (const part of pair.wire) {
        const own = { ...part, ...heads(pair) };
        wireRows.load(part, own);
        const numbers = wireRows.read(part, own, areas.numbers, areas.factors);
        this.#decode(own, this.#scales.wire, numbers, pair, areas);
      }
      for (const part of pair.stored) {
        this.#encode(part, this.#scales.stored, pair, areas);
        pageRows.write(part, packed(areas.numbers, part), packedFactors(areas.factors, part));
      }
    }
  }

  #range(layers: LayerRange | undefined): SectionPair[] {
    if (layers === undefined) return this.#layers.flat();
    return this.#layers.slice(layers.firstLayer, layers.firstLayer + layers.layerCount).flat();
  }

  #areas(): Areas {
    const { stage, numbers, factors, values, rows, wire } = this.#sizes;
    const [a, b, c, d, e, f] = kernels().areas(stage, numbers, factors, values, rows, wire);
    return { stage: a, numbers: b, factors: c, values: d, rows: e, wire: f };
  }

  /** Numbers of a part, packed at `numbers`, to their place in the section's rows. */
  #decode(part: StoredPart, scale: number, numbers: number, pair: SectionPair, { factors, values, rows }: Areas): void {
    const count = this.#blockTokens * part.heads;
    const whole = part.width === pair.width;
    decodeNumbers({ dtype: part.dtype, width: part.width, scale }, { numbers, factors, values: whole ? rows : values }, count);
    if (whole) return;
    const [run, row] = [part.width * F32_BYTES, pair.width * F32_BYTES];
    kernels().run.copyRuns(values, rows + part.firstDim * F32_BYTES, count, run, run, row);
  }

  /** The section's rows to numbers of one of its parts, packed. */
  #encode(part: StoredPart, scale: number, pair: SectionPair, { numbers, factors, values, rows }: Areas): void {
    const count = this.#blockTokens * part.heads;
    const whole = part.width === pair.width;
    if (!whole) {
      const [run, row] = [part.width * F32_BYTES, pair.width * F32_BYTES];
      kernels().run.copyRuns(rows + part.firstDim * F32_BYTES, values, count, run, row, run);
    }
    const places = { numbers, factors, values: whole ? rows : values };
    encodeNumbers({ dtype: part.dtype, width: part.width, scale }, places, count, values);
  }
}

/** Bytes, or addresses, of what a conversion needs in the kernels' memory. */
interface Areas {
  /** Of a part as its page has it. */
  stage: number;
  /** Its numbers, token after token, and their factors. */
  numbers: number;
  factors: number;
  /** The same as f32. */
  values: number;
  /** f32 [tokens, heads, width] of the section. */
  rows: number;
  /** Of a part in wire order, all heads. */
  wire: number;
}
type AreaSizes = Areas;

function areaSizes(pairs: readonly SectionPair[], tokens: number): AreaSizes {
  const most = (size: (pair: SectionPair) => number): number => Math.max(0, ...pairs.map(size));
  const ofParts = (size: (part: StoredPart) => number): number =>
    most((pair) => Math.max(0, ...[...pair.stored, ...pair.wire].map(size)));
  return {
    stage: most(({ stored }) => Math.max(0, ...stored.map((part) => partBytes(part, part) + tokens * part.heads * FACTOR_BYTES))),
    numbers: ofParts((part) => tokens * partNumberBytes(part)),
    factors: ofParts((part) => tokens * part.heads * FACTOR_BYTES),
    values: ofParts((part) => tokens * part.heads * part.width * F32_BYTES),
    rows: most(({ heads: own, width }) => tokens * own * width * F32_BYTES),
    wire: most(({ wire }) => Math.max(0, ...wire.map(({ rowBytes }) => tokens * rowBytes))),
  };
}

function heads({ firstHead, heads: own }: OwnHeads): OwnHeads {
  return { firstHead, heads: own };
}

/** Rows of a part's numbers one right after the other. */
function packed(at: number, part: StoredPart): { at: number; stride: number } {
  return { at, stride: partNumberBytes(part) };
}

function packedFactors(at: number, part: StoredPart): { at: number; stride: number } {
  return { at, stride: part.heads * FACTOR_BYTES };
}

function sectionPairs(stored: readonly PagedPart[], wire: readonly WirePart[]): SectionPair[] {
  const sections = [...new Set(wire.map((part) => part.section))];
  return sections.map((section) => {
    const own = stored.filter((part) => part.section === section);
    const [first] = own;
    return {
      stored: own,
      wire: wire.filter((part) => part.section === section),
      firstHead: first?.firstHead ?? 0,
      heads: first?.heads ?? 0,
      width: own.reduce((sum, part) => sum + part.width, 0),
    };
  });
}

function sameNumbers({ stored, wire }: SectionPair, scales: { stored: number; wire: number }): boolean {
  return (
    stored.length === wire.length &&
    stored.every((part, i) => {
      const other = wire[i];
      const scaled = !isFloat(part.dtype) && !hasFactors(part.dtype);
      return part.dtype === other?.dtype && part.width === other.width && (!scaled || scales.stored === scales.wire);
    })
  );
}
