/**
 * Where the bytes of objects lie in the pages of a sequence.
 *
 * A sequence whose layers have windows or states begins with pages that hold those (fixed-area.ts), as one run of bytes; the pages
 * after them hold `blockTokens` tokens each: [layer][K, V or latent, then entries][token or entry][numbers, then factors].
 *
 * This is wire order. Pages in a chip's own storage (page-form.ts) are converted to and from pages in wire order.
 */
import { keepsTokens, type KvDescriptor } from './descriptor.ts';
import { layerWireBytes, pagedSections, wirePageBytes } from './page-size.ts';
import { partRowBytes, storedParts } from './stored-parts.ts';
import { type FixedLayer, fixedArea } from './fixed-area.ts';
import { type KvObject, ObjectGeometry } from './kv-object.ts';

/** `length` bytes at byte `offset` of the page that is `page`-th of its set (not its index in the pool). */
export interface Segment {
  page: number;
  offset: number;
  length: number;
}

/** How a worker keeps objects in the pages of a sequence; sender and receiver each have one. */
export interface ObjectPlaces {
  /** Pages of a sequence of so many tokens. */
  pages(tokens: number): number;
  /** The byte runs of an object in wire order. @throws ServiceError `malformed_frame` when it has no place */
  segments(object: KvObject): readonly Segment[];
}

export class PageLayout implements ObjectPlaces {
  /** Pages at the beginning of a sequence that hold windows and states. */
  readonly fixedPages: number;
  readonly #descriptor: KvDescriptor;
  readonly #objects: ObjectGeometry;
  readonly #pageBytes: number;
  /** First byte of each layer in a page. */
  readonly #layerStart: number[] = [];
  readonly #fixed: readonly FixedLayer[];

  constructor(descriptor: KvDescriptor) {
    this.#descriptor = descriptor;
    this.#objects = new ObjectGeometry(descriptor);
    this.#pageBytes = wirePageBytes(descriptor);
    let start = 0;
    for (const layer of descriptor.layers) {
      this.#layerStart.push(start);
      start += layerWireBytes(layer, descriptor.storage);
    }
    const { layers, bytes } = fixedArea(descriptor);
    this.#fixed = layers;
    this.fixedPages = Math.ceil(bytes / this.#pageBytes);
  }

  pages(tokens: number): number {
    return this.fixedPages + Math.ceil(tokens / this.#descriptor.storage.blockTokens);
  }

  /** Runs that touch are joined, so a whole page is one run. */
  segments(object: KvObject): Segment[] {
    this.#objects.bytes(object);
    const runs: Segment[] = [];
    switch (object.kind) {
      case 'tokens':
        this.#tokens(runs, object);
        break;
      case 'entries':
        this.#entries(runs, object);
        break;
      case 'window':
        this.#window(runs, object);
        break;
      case 'state':
        this.#area(runs, this.#fixed[object.layer]?.states.get(object.name) as number, this.#objects.bytes(object));
        break;
    }
    return runs;
  }

  #tokens(runs: Segment[], { firstLayer, layerCount, firstToken, tokenCount }: KvObject & { kind: 'tokens' }): void {
    for (let index = firstLayer; index < firstLayer + layerCount; index++) {
      const layer = this.#descriptor.layers[index];
      if (layer === undefined || !keepsTokens(layer)) continue;
      let start = this.#layerStart[index] as number;
      for (const part of storedParts(layer, this.#descriptor.storage)) {
        start += this.#rows(runs, { start, bytes: partRowBytes(part), ratio: 1, first: firstToken, count: tokenCount });
      }
    }
  }

  #entries(runs: Segment[], { layer, ratio, firstEntry, entryCount }: KvObject & { kind: 'entries' }): void {
    let start = this.#layerStart[layer] as number;
    const geometry = this.#descriptor.layers[layer] as KvDescriptor['layers'][number];
    const entries = geometry.entries?.length ?? 0;
    const sections = pagedSections(geometry, this.#descriptor.storage);
    for (const [i, section] of sections.entries()) {
      const wanted = i >= sections.length - entries && section.ratio === ratio;
      start += this.#rows(runs, { ...section, start, first: firstEntry, count: wanted ? entryCount : 0 });
    }
  }

  #window(runs: Segment[], object: KvObject & { kind: 'window' }): void {
    const layer = this.#objects.window(object);
    let start = this.#fixed[object.layer]?.window as number;
    const place = object.firstToken % layer.window;
    const older = Math.min(object.tokenCount, layer.window - place);
    for (const part of storedParts(layer, this.#descriptor.storage)) {
      const row = partRowBytes(part);
      this.#area(runs, start + place * row, older * row);
      this.#area(runs, start, (object.tokenCount - older) * row);
      start += layer.window * row;
    }
  }

  /** Rows [first, first + count) of a section that begins at byte `start` of every page; returns the section's bytes in a page. */
  #rows(runs: Segment[], o: { start: number; bytes: number; ratio: number; first: number; count: number }): number {
    const row = o.bytes;
    const perPage = this.#descriptor.storage.blockTokens / o.ratio;
    const last = o.first + o.count;
    for (let index = o.first; index < last; ) {
      const page = Math.floor(index / perPage);
      const end = Math.min(last, (page + 1) * perPage);
      append(runs, {
        page: this.fixedPages + page,
        offset: o.start + (index - page * perPage) * row,
        length: (end - index) * row,
      });
      index = end;
    }
    return perPage * row;
  }

  /** Bytes [start, start + length) of the fixed area. */
  #area(runs: Segment[], start: number, length: number): void {
    for (let at = start; at < start + length; ) {
      const page = Math.floor(at / this.#pageBytes);
      const end = Math.min(start + length, (page + 1) * this.#pageBytes);
      append(runs, { page, offset: at - page * this.#pageBytes, length: end - at });
      at = end;
    }
  }
}

/** The part [start, start + length) of a list of runs, as runs. Bytes past the end are left out. */
export function sliceSegments(runs: readonly Segment[], start: number, length: number): Segment[] {
  const sliced: Segment[] = [];
  const end = start + length;
  let position = 0;
  for (const run of runs) {
    const from = Math.max(start, position);
    const to = Math.min(end, position + run.length);
    if (from < to) sliced.push({ page: run.page, offset: run.offset + (from - position), length: to - from });
    position += run.length;
    if (position >= end) break;
  }
  return sliced;
}

function append(runs: Segment[], run: Segment): void {
  const last = runs.at(-1);
  if (last !== undefined && last.page === run.page && last.offset + last.length === run.offset) last.length += run.length;
  else runs.push(run);
}
