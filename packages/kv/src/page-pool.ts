/**
 * Pages: fixed-size blocks of native memory that hold KV in storage form, and who owns them.
 *
 * Invariants
 *  P1  A page is in the free list, or owned by exactly one PageSet. A fork lists leading pages of its base too, and holds the base.
 *  P2  A page returns to the free list only when the set that owns it is released and no hold on that set remains.
 *  P3  An epoch (u32, never 0) names one reservation of this pool; it isn't used again before 2^32 others were.
 *  P4  Memory outlives the pool's disposal until the last hold is gone.
 *
 * Page `i` is bytes [i * pageBytes, (i + 1) * pageBytes) of each arena, of which there are several where heads are dealt to shards: in wire order (page-layout.ts) where the storage is, in the
 * chip's own (page-form.ts) otherwise.
 */
import { fail } from '@causeway/errors';
import { NativeBuffer } from '@causeway/ort';
import type { KvDescriptor } from './descriptor.ts';
import { pageBytes } from './page-size.ts';
import { validateDescriptor } from './descriptor-check.ts';
import { arenaStorages } from './stored-parts.ts';

/** Where the pages of a set are in their life. */
export type PageState = 'reserved' | 'filling' | 'committed' | 'owned' | 'released';

export interface PagePoolOptions {
  descriptor: KvDescriptor;
  pageCount: number;
}

/** What a page set needs of its pool. */
interface PageSource {
  take(count: number): number[] | undefined;
  give(pages: readonly number[]): void;
}

const MAX_EPOCH = 0xffff_ffff;

/** A worker's KV memory: `pageCount` pages, given out in sets. */
export class PagePool implements Disposable {
  readonly descriptor: KvDescriptor;
  /** Bytes of one page in one arena. */
  readonly pageBytes: number;
  readonly totalPages: number;
  /** One for each shard that the worker holds. */
  readonly arenas: readonly NativeBuffer[];
  readonly #free: number[] = [];
  readonly #listeners = new Set<(freePages: number) => void>();
  readonly #source: PageSource;
  #lastEpoch = 0;
  #disposed = false;

  /** @throws ServiceError when the descriptor is invalid, pageCount is not a positive integer or memory can't be mapped. */
  constructor(options: PagePoolOptions) {
    this.descriptor = validateDescriptor(options.descriptor);
    this.pageBytes = pageBytes(this.descriptor);
    if (!Number.isSafeInteger(options.pageCount) || options.pageCount < 1) {
      fail(
        'invalid_argument',
        'bad_config',
        `a page pool needs at least one page, not ${options.pageCount}: raise the KV budget`,
      );
    }
    const total = options.pageCount * this.pageBytes;
    if (!Number.isSafeInteger(total)) {
      fail(
        'invalid_argument',
        'bad_config',
        `${options.pageCount} pages of ${this.pageBytes} bytes are more than can be addressed`,
      );
    }
    this.totalPages = options.pageCount;
    this.arenas = arenaStorages(this.descriptor.storage).map(() => NativeBuffer.allocate(total));
    for (let page = this.totalPages - 1; page >= 0; page--) this.#free.push(page);
    this.#source = { take: (count) => this.#take(count), give: (pages) => this.#give(pages) };
  }

  /** The first arena, where most workers have all. */
  get buffer(): NativeBuffer {
    return this.arenas[0] as NativeBuffer;
  }

  get freePages(): number {
    return this.#free.length;
  }

  /**
   * Takes `pages` pages, all or nothing; undefined when fewer are free.
   * @throws ServiceError when `pages` is not a positive integer or the pool is disposed.
   */
  reserve(pages: number): PageSet | undefined {
    if (this.#disposed) fail('failed_precondition', 'internal', 'the page pool is disposed');
    const taken = this.#source.take(pages);
    if (taken === undefined) return undefined;
    this.#lastEpoch = this.#lastEpoch === MAX_EPOCH ? 1 : this.#lastEpoch + 1;
    return new PageSet(this.#source, taken, this.#lastEpoch);
  }

  /** View of page `page` of an arena, `pageBytes` long; no copy. */
  bytes(page: number, arena = 0): Uint8Array {
    if (!Number.isInteger(page) || page < 0 || page >= this.totalPages) {
      fail('out_of_range', 'internal', `page ${page} is not in a pool of ${this.totalPages}`);
    }
    const buffer = this.arenas[arena];
    if (buffer === undefined) fail('out_of_range', 'internal', `arena ${arena} is not among ${this.arenas.length}`);
    return buffer.bytes(page * this.pageBytes, this.pageBytes);
  }

  /** Address of the first byte of page `page`, for native code and other threads. */
  address(page: number): bigint {
    return this.buffer.address + BigInt(page * this.pageBytes);
  }

  /** Calls `listener(freePages)` after pages came back. Dispose the result to stop. */
  onFreed(listener: (freePages: number) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Frees the memory, at once or (P4) when the last page set and hold is gone. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#listeners.clear();
    this.#freeMemoryWhenIdle();
  }

  #take(count: number): number[] | undefined {
    if (!Number.isSafeInteger(count) || count < 1) fail('invalid_argument', 'internal', `can't reserve ${count} pages`);
    if (this.#disposed || count > this.#free.length) return undefined;
    return this.#free.splice(this.#free.length - count, count).reverse();
  }

  #give(pages: readonly number[]): void {
    for (let i = pages.length - 1; i >= 0; i--) this.#free.push(pages[i] as number);
    if (this.#disposed) return this.#freeMemoryWhenIdle();
    for (const listener of this.#listeners) listener(this.#free.length);
  }

  #freeMemoryWhenIdle(): void {
    if (this.#free.length === this.totalPages) for (const arena of this.arenas) arena[Symbol.dispose]();
  }
}

/** Leading pages of another set, kept while they are read. */
interface SharedPages {
  readonly pages: readonly number[];
  readonly hold: Disposable;
}

/** Pages reserved together for one sequence, in token order. Disposing releases them (P2); idempotent. */
export class PageSet implements Disposable {
  /** Never reused while anything of this reservation runs (P3). */
  readonly epoch: number;
  readonly #source: PageSource;
  readonly #shared: SharedPages | undefined;
  /** Shared ones first. */
  readonly #pages: number[];
  #state: PageState = 'reserved';
  #holds = 0;
  /** Leading pages that forks list: they stay here while this set lives. */
  #lentPages = 0;

  /** Made by PagePool.reserve and PageSet.fork only. */
  constructor(source: PageSource, pages: readonly number[], epoch: number, shared?: SharedPages) {
    this.#source = source;
    this.#shared = shared;
    this.#pages = shared === undefined ? [...pages] : [...shared.pages, ...pages];
    this.epoch = epoch;
  }

  /** Page indices in token order. */
  get pages(): readonly number[] {
    return this.#pages;
  }

  /** Of `pages` the first so many belong to the set that this one was forked from: they are only read. */
  get sharedPages(): number {
    return this.#shared?.pages.length ?? 0;
  }

  get state(): PageState {
    return this.#state;
  }

  /** Holds in force. */
  get holds(): number {
    return this.#holds;
  }

  /** reserved -> filling: from now on bytes may be written by their producer. */
  startFilling(): void {
    this.#move('filling', ['reserved']);
  }

  /** filling -> committed: the bytes are complete and may be read. */
  commit(): void {
    this.#move('committed', ['filling']);
  }

  /** committed -> owned: a sequence that runs here has taken the pages over and may append. */
  own(): void {
    this.#move('owned', ['committed']);
  }

  /** @throws ServiceError `not_committed` unless the bytes may be read as KV. */
  assertReadable(): void {
    if (this.#state !== 'committed' && this.#state !== 'owned') {
      fail(
        'failed_precondition',
        'not_committed',
        `pages of epoch ${this.epoch} are ${this.#state}: nothing is decoded from uncommitted pages`,
      );
    }
  }

  /**
   * Keeps the pages out of the pool while a frame, codec or conversion job uses them, even if the set is released meanwhile.
   * @throws ServiceError when the set is released already.
   */
  hold(): Disposable {
    if (this.#state === 'released') {
      fail('failed_precondition', 'stale_epoch', `pages of epoch ${this.epoch} are released: no job may start on them`);
    }
    this.#holds++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#holds--;
        this.#returnIfUnused();
      },
    };
  }

  /**
   * Another sequence over the first `shared` pages of this one. It takes over the last `own` pages of this set, which must not be
   * among the shared ones and hold nothing yet, and keeps the shared ones from returning to the pool. It begins as `owned`.
   * @throws ServiceError when nothing may be read here yet, or there are not so many pages that no fork shares.
   */
  fork(shared: number, own: number): PageSet {
    this.assertReadable();
    const length = this.#pages.length - own;
    if (!(own >= 1 && shared >= 0 && shared <= length && length >= Math.max(this.sharedPages, this.#lentPages))) {
      fail(
        'invalid_argument',
        'internal',
        `${this.#pages.length} pages can't give ${shared} shared and ${own} of their own away`,
      );
    }
    const hold = this.hold();
    const fork = new PageSet(this.#source, this.#pages.splice(length), this.epoch, { pages: this.#pages.slice(0, shared), hold });
    fork.#state = 'owned';
    this.#lentPages = Math.max(this.#lentPages, shared);
    return fork;
  }

  /** Appends `pages` more pages, all or nothing; false when fewer are free. Never after release. */
  extend(pages: number): boolean {
    if (this.#state === 'released') {
      fail('failed_precondition', 'stale_epoch', `pages of epoch ${this.epoch} are released: they can't grow`);
    }
    const more = this.#source.take(pages);
    if (more === undefined) return false;
    this.#pages.push(...more);
    return true;
  }

  [Symbol.dispose](): void {
    if (this.#state === 'released') return;
    this.#state = 'released';
    this.#returnIfUnused();
  }

  #move(to: PageState, from: readonly PageState[]): void {
    if (!from.includes(this.#state)) {
      fail(
        'failed_precondition',
        'internal',
        `pages of epoch ${this.epoch} are ${this.#state}; only ${from.join(' or ')} pages become ${to}`,
      );
    }
    this.#state = to;
  }

  #returnIfUnused(): void {
    if (this.#state !== 'released' || this.#holds > 0) return;
    this.#source.give(this.#pages.slice(this.sharedPages));
    this.#shared?.hold[Symbol.dispose]();
  }
}
