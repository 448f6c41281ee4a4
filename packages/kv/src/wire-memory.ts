/**
 * Pages as a transfer sees them: in wire order. Where a worker stores KV so and in the form that travels, that is the pages
 * themselves. Otherwise each page has a shadow of its own, in address space that holds memory only while a transfer uses it, and pages
 * are converted to and from their shadows in the codec threads, the arenas of several shards to and from the same one.
 */
import { fail } from '@causeway/errors';
import { NativeBuffer } from '@causeway/ort';
import type { MemoryRun } from './codec-messages.ts';
import type { Codecs } from './codec-pool.ts';
import { isWireOrder, type KvDescriptor, type KvWireForm } from './descriptor.ts';
import type { LayerRange } from './layer-groups.ts';
import { type ObjectPlaces, PageLayout, type Segment } from './page-layout.ts';
import type { PagePool, PageSet } from './page-pool.ts';
import { wirePageBytes } from './page-size.ts';
import { arenaStorages } from './stored-parts.ts';
import { wireDescriptor } from './wire-choice.ts';

/** Shadows begin where the system can take their memory back. */
const SYSTEM_PAGE = 4096;

/** A worker's memory in one wire form. */
export interface WireMemory {
  /** The descriptor of pages in this form. */
  descriptor: KvDescriptor;
  /** Pages are converted; false: they are read and written as they are. */
  converts: boolean;
  places: ObjectPlaces;
  /** Memory of a run of a page set. */
  pageRun(pages: PageSet, run: Segment): MemoryRun;
  /** Converts blocks [first, end) of a set, of these layers or all; thread time in ms. The caller holds the pages. */
  convert(way: 'toWire' | 'fromWire', pages: PageSet, first: number, end: number, layers?: LayerRange): Promise<number>;
  /** Gives the memory of a set's shadows back. Call it when nothing of the transfer runs any more, while the pages are held. */
  discard(pages: PageSet): void;
}

export interface WireMemories extends Disposable {
  of(form: KvWireForm): WireMemory;
}

/** The wire forms of a worker's pages, made as they are asked for. `places`: where the pages hold objects, if not as PageLayout says. */
export function wireMemories(o: {
  pool: PagePool;
  descriptor: KvDescriptor;
  codecs: Codecs;
  places?: ObjectPlaces | undefined;
}): WireMemories {
  const { pool, descriptor, codecs } = o;
  const { storage } = descriptor;
  const arenas = pool.arenas.map((arena) => codecs.register(arena));
  const latents = descriptor.layers.some(({ kind }) => kind === 'latent');
  const known = new Map<string, WireMemory>();
  // f32 is the widest form, but for codes of very narrow heads with their factors
  const widest = Math.max(...(['f32', 'int8'] as const).map((dtype) => wirePageBytes(wireDescriptor(descriptor, { dtype }))));
  const shadowBytes = Math.ceil(widest / SYSTEM_PAGE) * SYSTEM_PAGE;
  let shadow: { buffer: NativeBuffer; region: number } | undefined;

  const run = (region: number, stride: number, pages: PageSet, { page, offset, length }: Segment): MemoryRun => {
    const index = pages.pages[page];
    if (index === undefined) fail('failed_precondition', 'internal', `the page set has no page ${page}`);
    return { region, offset: index * stride + offset, length };
  };
  const direct = (): WireMemory => ({
    descriptor,
    converts: false,
    places: o.places ?? new PageLayout(descriptor),
    pageRun: (pages, segment) => run(arenas[0] as number, pool.pageBytes, pages, segment),
    convert: () => Promise.resolve(0),
    discard: () => undefined,
  });
  const converted = (form: KvWireForm): WireMemory => {
    if (shadow === undefined) {
      const buffer = NativeBuffer.allocate(shadowBytes * pool.totalPages);
      shadow = { buffer, region: codecs.register(buffer) };
    }
    const { buffer, region } = shadow;
    const wire = wireDescriptor(descriptor, form);
    const converters = arenaStorages(storage).map((own) => codecs.converter({ ...descriptor, storage: own }, form));
    return {
      descriptor: wire,
      converts: true,
      places: new PageLayout(wire),
      pageRun: (pages, segment) => run(region, shadowBytes, pages, segment),
      convert: async (way, pages, first, end, layers) => {
        const jobs = converters.map((converter, arena) =>
          codecs.convert({
            way,
            converter,
            pageRegion: arenas[arena] as number,
            wireRegion: region,
            pageBytes: pool.pageBytes,
            wireBytes: wirePageBytes(wire),
            blocks: pages.pages.slice(first, end).map((page) => ({ page: page * pool.pageBytes, wire: page * shadowBytes })),
            layers,
          }),
        );
        // one that fails must not let go of the pages while another still runs
        await Promise.allSettled(jobs);
        return (await Promise.all(jobs)).reduce((sum, ms) => sum + ms, 0);
      },
      discard: (pages) => {
        for (const page of pages.pages) buffer.discard(page * shadowBytes, shadowBytes);
      },
    };
  };
  return {
    of(form) {
      const key = JSON.stringify([form.dtype, form.latent, form.scale]);
      // numbers in wire order, but for latents that travel apart
      const asStored = isWireOrder(storage) && form.dtype === storage.dtype && !(form.latent === 'split' && latents);
      const memory = known.get(key) ?? (asStored ? direct() : converted(form));
      known.set(key, memory);
      return memory;
    },
    [Symbol.dispose]: () => shadow?.buffer[Symbol.dispose](),
  };
}
