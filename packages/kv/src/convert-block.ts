/**
 * One block of tokens between a page in a chip's own storage (page-form.ts) and a page in wire order (page-layout.ts). Where the types
 * agree bits are moved and nothing is computed; otherwise numbers go through f32. Shards write and read their own heads.
 */
import { fail } from '@causeway/errors';
import { DTYPE_BYTES, hasFactors, isFloat, type KvDescriptor, type KvWireForm } from './descriptor.ts';
import type { LayerRange } from './layer-groups.ts';
import { decodeNumbers, encodeNumbers, numbersOf, type RowFormat } from './number-format.ts';
import { LINE_BYTES, type PagedPart, pageForm, partBytes } from './page-form.ts';
import { pagedSections } from './page-size.ts';
import { FACTOR_BYTES, partNumberBytes, partRowBytes, shardParts, storedParts, type StoredPart } from './stored-parts.ts';

/** A part in a page in wire order. */
interface WirePart extends StoredPart {
  offset: number;
  rowBytes: number;
}

/** Storage and wire parts of a layer that hold the same section. */
interface SectionPair {
  stored: PagedPart[];
  wire: WirePart[];
  /** Heads of the storage parts, first and count. */
  firstHead: number;
  heads: number;
  /** Numbers of one head of the whole section. */
  width: number;
}

/** What is moved is moved in words of 4 bytes, of which heads are whole numbers. */
const WORD_BYTES = 4;

/** A part of all tokens of a block, packed. */
interface Scratch {
  words: Uint32Array;
  bytes: Uint8Array;
  factors: Float32Array;
  /** Room for the part as f32. */
  values: Float32Array;
}

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

/** Converts blocks of one storage to and from one wire form. Not reentrant; owns scratch memory of a block of one section. */
export class BlockConverter {
  readonly #layers: SectionPair[][];
  readonly #blockTokens: number;
  readonly #scales: { stored: number; wire: number };
  #rows = new Float32Array(0);
  #moved = new Uint8Array(0);
  #factors = new Float32Array(0);

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
  }

  /** Storage to wire: the heads that the page holds. */
  toWire(page: Uint8Array, wire: Uint8Array, layers?: LayerRange): void {
    for (const pair of this.#range(layers)) {
      if (sameNumbers(pair, this.#scales)) {
        pair.stored.forEach((stored, i) => this.#move('toWire', page, stored, wire, pair.wire[i] as WirePart));
      } else {
        const there = f32Rows(wire, pair, this.#blockTokens);
        const rows = there ?? this.#sectionRows(pair);
        for (const part of pair.stored) this.#readStored(page, part, pair, rows);
        if (there === undefined) for (const part of pair.wire) this.#writeWire(wire, part, pair, rows);
      }
    }
  }

  /** Wire to storage: the heads that the page holds. Rounds where the storage's type holds less. */
  fromWire(wire: Uint8Array, page: Uint8Array, layers?: LayerRange): void {
    for (const pair of this.#range(layers)) {
      if (sameNumbers(pair, this.#scales)) {
        pair.stored.forEach((stored, i) => this.#move('fromWire', page, stored, wire, pair.wire[i] as WirePart));
      } else {
        const there = f32Rows(wire, pair, this.#blockTokens);
        const rows = there ?? this.#sectionRows(pair);
        if (there === undefined) for (const part of pair.wire) this.#readWire(wire, part, pair, rows);
        for (const part of pair.stored) this.#writeStored(page, part, pair, rows);
      }
    }
  }

  #range(layers: LayerRange | undefined): SectionPair[] {
    if (layers === undefined) return this.#layers.flat();
    return this.#layers.slice(layers.firstLayer, layers.firstLayer + layers.layerCount).flat();
  }

  /** f32 [tokens, heads, width] of a section. */
  #sectionRows({ heads, width }: SectionPair): Float32Array {
    const numbers = this.#blockTokens * heads * width;
    if (this.#rows.length < numbers) this.#rows = new Float32Array(numbers);
    return this.#rows.subarray(0, numbers);
  }

  /** Numbers and factors of a part, token after token, in scratch memory: as words, as bytes, as f32 numbers. */
  #scratch(part: StoredPart): Scratch {
    const heads = this.#blockTokens * part.heads;
    const bytes = this.#blockTokens * partNumberBytes(part);
    const valueBytes = heads * part.width * 4;
    if (this.#moved.length < bytes + valueBytes) this.#moved = new Uint8Array(bytes + valueBytes);
    if (this.#factors.length < heads) this.#factors = new Float32Array(heads);
    const { buffer } = this.#moved;
    return {
      words: new Uint32Array(buffer, valueBytes, bytes / WORD_BYTES),
      bytes: this.#moved.subarray(valueBytes, valueBytes + bytes),
      factors: this.#factors.subarray(0, heads),
      values: new Float32Array(buffer, 0, heads * part.width),
    };
  }

  #readStored(page: Uint8Array, part: PagedPart, pair: SectionPair, rows: Float32Array): void {
    const scratch = this.#scratch(part);
    moveStored(page, part, scratch.words, rowWords(part), 0, false);
    moveFactors(page, part, scratch.factors, part.heads, 0, false);
    decode(part, this.#scales.stored, scratch, pair, rows);
  }

  #writeStored(page: Uint8Array, part: PagedPart, pair: SectionPair, rows: Float32Array): void {
    const scratch = this.#scratch(part);
    encode(part, this.#scales.stored, scratch, pair, rows);
    moveStored(page, part, scratch.words, rowWords(part), 0, true);
    moveFactors(page, part, scratch.factors, part.heads, 0, true);
  }

  #readWire(wire: Uint8Array, part: WirePart, pair: SectionPair, rows: Float32Array): void {
    const own = { ...part, firstHead: pair.firstHead, heads: pair.heads };
    const scratch = this.#scratch(own);
    moveWire(wire, part, own, this.#blockTokens, scratch, false);
    decode(own, this.#scales.wire, scratch, pair, rows);
  }

  #writeWire(wire: Uint8Array, part: WirePart, pair: SectionPair, rows: Float32Array): void {
    const own = { ...part, firstHead: pair.firstHead, heads: pair.heads };
    const scratch = this.#scratch(own);
    encode(own, this.#scales.wire, scratch, pair, rows);
    moveWire(wire, part, own, this.#blockTokens, scratch, true);
  }

  /** Same type, same heads' numbers: bits only. */
  #move(way: 'toWire' | 'fromWire', page: Uint8Array, stored: PagedPart, wire: Uint8Array, part: WirePart): void {
    const region = wire.subarray(part.offset, part.offset + part.rowBytes * this.#blockTokens);
    const words = wordsIn(region);
    const first = (stored.firstHead * part.width * DTYPE_BYTES[part.dtype]) / WORD_BYTES;
    const write = way === 'fromWire';
    moveStored(page, stored, words, part.rowBytes / WORD_BYTES, first, write);
    if (stored.factors === undefined) return;
    const floats = new Float32Array(region.buffer, region.byteOffset, region.length / FACTOR_BYTES);
    const stride = part.rowBytes / FACTOR_BYTES;
    const firstFactor = partNumberBytes(part) / FACTOR_BYTES + stored.firstHead;
    if (write) checkFactors(floats, stored, this.#blockTokens, stride, firstFactor);
    moveFactors(page, stored, floats, stride, firstFactor, write);
  }
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

/** A section that travels as f32 lies in the wire page as rows do; undefined when it travels in another type, or other shards have heads of it. */
function f32Rows(wire: Uint8Array, pair: SectionPair, tokens: number): Float32Array | undefined {
  const [part, ...others] = pair.wire;
  if (part?.dtype !== 'f32' || others.length > 0 || part.heads !== pair.heads || part.width !== pair.width) return undefined;
  return new Float32Array(wire.buffer, wire.byteOffset + part.offset, tokens * pair.heads * pair.width);
}

/** Words of one token of a part. */
function rowWords(part: StoredPart): number {
  return partNumberBytes(part) / WORD_BYTES;
}

function wordsIn({ buffer, byteOffset, length }: Uint8Array): Uint32Array {
  return new Uint32Array(buffer, byteOffset, length / WORD_BYTES);
}

/** Numbers of a part -> rows of its section. */
function decode(
  part: StoredPart,
  scale: number,
  { bytes, factors, values }: Scratch,
  pair: SectionPair,
  rows: Float32Array,
): void {
  const format: RowFormat = { dtype: part.dtype, width: part.width, scale };
  const numbers = numbersOf(part.dtype, bytes);
  if (part.width === pair.width) return decodeNumbers(format, numbers, factors, rows);
  decodeNumbers(format, numbers, factors, values);
  for (let from = 0, to = part.firstDim; from < values.length; from += part.width, to += pair.width) {
    rows.set(values.subarray(from, from + part.width), to);
  }
}

/** Rows of a section -> numbers of one of its parts. */
function encode(
  part: StoredPart,
  scale: number,
  { bytes, factors, values }: Scratch,
  pair: SectionPair,
  rows: Float32Array,
): void {
  const format: RowFormat = { dtype: part.dtype, width: part.width, scale };
  const numbers = numbersOf(part.dtype, bytes);
  if (part.width === pair.width) return encodeNumbers(format, rows, numbers, factors);
  for (let to = 0, from = part.firstDim; to < values.length; to += part.width, from += pair.width) {
    values.set(rows.subarray(from, from + part.width), to);
  }
  encodeNumbers(format, values, numbers, factors);
}

/** Moves the heads of `own` between a wire page and scratch memory, with their factors. */
function moveWire(wire: Uint8Array, part: WirePart, own: StoredPart, tokens: number, scratch: Scratch, write: boolean): void {
  const region = wire.subarray(part.offset, part.offset + part.rowBytes * tokens);
  const words = wordsIn(region);
  const stride = part.rowBytes / WORD_BYTES;
  const run = rowWords(own);
  const first = (own.firstHead * part.width * DTYPE_BYTES[part.dtype]) / WORD_BYTES;
  moveRuns(words, scratch.words, tokens, run, stride, run, first, 0, write);
  if (!hasFactors(part.dtype)) return;
  const factors = new Uint32Array(scratch.factors.buffer, scratch.factors.byteOffset, scratch.factors.length);
  moveRuns(words, factors, tokens, own.heads, stride, own.heads, rowWords(part) + own.firstHead, 0, write);
  if (!write) checkFactors(scratch.factors, own, tokens, own.heads, 0);
}

/**
 * Moves a part's numbers between its page and rows of words: the row of token t begins at word t * stride + first.
 * @param write rows to page; otherwise page to rows
 */
function moveStored(page: Uint8Array, part: PagedPart, rows: Uint32Array, stride: number, first: number, write: boolean): void {
  const { layout, blockTokens, heads, offset } = part;
  const row = rowWords(part);
  const words = wordsIn(page.subarray(offset, offset + partBytes(part, part)));
  if (layout === 'NHD') return moveRuns(words, rows, blockTokens, row, row, stride, 0, first, write);
  if (layout === 'HND') {
    const run = row / heads;
    for (let head = 0; head < heads; head++) {
      moveRuns(words, rows, blockTokens, run, run, stride, head * blockTokens * run, first + head * run, write);
    }
    return;
  }
  const line = LINE_BYTES / WORD_BYTES;
  for (let column = 0; column * line < row; column++) {
    const start = column * blockTokens * line;
    const used = Math.min(line, row - column * line);
    if (write && used < line) words.fill(0, start, start + blockTokens * line);
    moveRuns(words, rows, blockTokens, used, line, stride, start, first + column * line, write);
  }
}

/** `count` runs of `run` words: in the page `pageStride` apart from `pageFirst` on, in rows `stride` apart from `first` on. */
function moveRuns(
  page: Uint32Array,
  rows: Uint32Array,
  count: number,
  run: number,
  pageStride: number,
  stride: number,
  pageFirst: number,
  first: number,
  write: boolean,
): void {
  const [source, target] = write ? [rows, page] : [page, rows];
  const [sourceStride, targetStride] = write ? [stride, pageStride] : [pageStride, stride];
  const from = write ? first : pageFirst;
  const to = write ? pageFirst : first;
  if (sourceStride === run && targetStride === run) {
    target.set(source.subarray(from, from + count * run), to);
    return;
  }
  for (let i = 0; i < count; i++) {
    const a = from + i * sourceStride;
    const b = to + i * targetStride;
    for (let word = 0; word < run; word++) target[b + word] = source[a + word] as number;
  }
}

/**
 * Looks at factors that came over the wire: that of (token, head) lies at token * stride + first + head.
 * @throws ServiceError `malformed_frame` for one that makes no numbers of codes
 */
function checkFactors(rows: Float32Array, { firstHead, heads }: StoredPart, tokens: number, stride: number, first: number): void {
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const factor = rows[token * stride + first + head] as number;
      if (factor >= 0 && factor < Number.POSITIVE_INFINITY) continue;
      const where = `token ${token} of the block, head ${firstHead + head}`;
      fail('invalid_argument', 'malformed_frame', `the factor of ${where} is ${factor}: factors are finite and not negative`);
    }
  }
}

/** Moves a part's factors between its page and rows: that of (token, head) lies at token * stride + first + head. */
function moveFactors(page: Uint8Array, part: PagedPart, rows: Float32Array, stride: number, first: number, write: boolean): void {
  if (part.factors === undefined) return;
  const { blockTokens, heads, layout } = part;
  const stored = new Float32Array(page.buffer, page.byteOffset + part.factors, blockTokens * heads);
  const [tokenStep, headStep] = layout === 'NHD' ? [heads, 1] : [1, blockTokens];
  for (let token = 0; token < blockTokens; token++) {
    for (let head = 0; head < heads; head++) {
      const there = token * tokenStep + head * headStep;
      const here = token * stride + first + head;
      if (write) stored[there] = rows[here] as number;
      else rows[here] = stored[there] as number;
    }
  }
}
