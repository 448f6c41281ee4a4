/**
 * What the model checker knows of a pool without asking it: whose each page is, and what may stand in it. Every word of a page is
 * either blank (written by the ledger, and told apart by owner) or the mark of the transfer that it belongs to.
 */
import type { PagePool, PageSet } from '@causeway/kv';

/** What is wrong is told in the terms of the invariants. */
export class OwnershipViolation extends Error {}

/** Words of free pages. */
const FREE = 0xeeee_eeee;
const BLANK = 0xf000_0000;
const MARK_PAGES = 64;

let reservations = 0;
let marks = 0;

/** A mark that no transfer had before; page `i` of the transfer has `mark + i`. */
export function newMark(): number {
  return (++marks * MARK_PAGES) % BLANK;
}

/** A page set, and what its owner does with it. */
export class Reservation {
  readonly blank = (BLANK + (++reservations % 0x0fff_ffff)) >>> 0;
  readonly set: PageSet;
  /** Pages that are its own to give back. */
  own: readonly number[];
  /** The mark that belongs into its leading pages, and how many pages have it. */
  mark: { first: number; pages: number } | undefined;
  /** Pages that a fork reads and must not lose. */
  readonly shared: Reservation | undefined;

  constructor(set: PageSet, shared?: Reservation) {
    this.set = set;
    this.shared = shared;
    this.own = set.pages.slice(set.sharedPages);
  }

  /** Nothing may use the pages any more. */
  get over(): boolean {
    return this.set.state === 'released' && this.set.holds === 0;
  }
}

export class PageLedger {
  readonly pool: PagePool;
  readonly #words: Uint32Array;
  readonly #pageWords: number;
  readonly #owner: (Reservation | undefined)[];
  readonly #live = new Set<Reservation>();
  /** Whether pages are written by their owner before it sends them, or by a transfer. */
  readonly #sends: boolean;

  constructor(pool: PagePool, sends: boolean) {
    this.pool = pool;
    this.#sends = sends;
    const bytes = pool.buffer.bytes(0, pool.pageBytes * pool.totalPages);
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4).fill(FREE);
    this.#pageWords = pool.pageBytes / 4;
    this.#owner = Array.from({ length: pool.totalPages }, () => undefined);
  }

  reserve(pages: number): Reservation | undefined {
    const set = this.pool.reserve(pages);
    return set === undefined ? undefined : this.#enter(new Reservation(set));
  }

  /** The set has grown. */
  grown(reservation: Reservation): void {
    const { set, own } = reservation;
    const more = set.pages.slice(set.sharedPages + own.length);
    this.#take(reservation, more);
    reservation.own = [...own, ...more];
  }

  /** A fork of `base` that takes its last page over. */
  fork(base: Reservation, shared: number): Reservation {
    const set = base.set.fork(shared, 1);
    const [page] = base.own.slice(-1);
    base.own = base.own.slice(0, -1);
    if (page !== undefined) {
      this.#owner[page] = undefined;
      this.#fill(page, FREE);
    }
    return this.#enter(new Reservation(set, base));
  }

  /** Makes pages blank again, and says which mark belongs into them from now on. */
  expect(reservation: Reservation, first: number, pages: number): void {
    reservation.mark = { first, pages };
    for (const page of reservation.own) this.#fill(page, reservation.blank);
  }

  /** Writes a mark into leading pages: what computing does. */
  compute(reservation: Reservation, pages: number): void {
    const { mark, own } = reservation;
    if (mark === undefined) return;
    for (let i = 0; i < Math.min(pages, own.length); i++) this.#fill(own[i] as number, (mark.first + i) >>> 0);
  }

  /** Whether the first word of what a transfer writes is there. */
  begun({ own, mark }: Reservation): boolean {
    return this.#words[(own[0] as number) * this.#pageWords] === mark?.first;
  }

  /** Whether a reservation is of this pool, and not over. */
  owns(reservation: Reservation): boolean {
    return this.#live.has(reservation);
  }

  /** @throws OwnershipViolation */
  check(): void {
    for (const reservation of this.#live) {
      if (reservation.over) {
        this.#live.delete(reservation);
        for (const page of reservation.own) {
          this.#owner[page] = undefined;
          this.#checkPage(page, reservation, this.#place(reservation, page));
          this.#fill(page, FREE);
        }
        continue;
      }
      this.#checkReservation(reservation);
    }
    let owned = 0;
    for (const [page, owner] of this.#owner.entries()) {
      if (owner === undefined) this.#checkFree(page);
      else owned++;
    }
    const { freePages, totalPages } = this.pool;
    if (freePages + owned === totalPages) return;
    const more = freePages + owned > totalPages;
    const what = more ? 'a page was freed twice, or too early' : 'a page is leaked';
    throw new OwnershipViolation(`${what}: ${freePages} free and ${owned} owned pages of ${totalPages}`);
  }

  /** @throws OwnershipViolation when anything is still owned */
  checkAllFree(): void {
    this.check();
    const { freePages, totalPages } = this.pool;
    if (freePages !== totalPages) {
      const held = [...this.#live].map(({ set }) => `epoch ${set.epoch} ${set.state} with ${set.holds} holds`);
      throw new OwnershipViolation(`a page is leaked: ${totalPages - freePages} pages never came back: ${held.join(', ')}`);
    }
  }

  #enter(reservation: Reservation): Reservation {
    this.#take(reservation, reservation.own);
    this.#live.add(reservation);
    return reservation;
  }

  #take(reservation: Reservation, pages: readonly number[]): void {
    for (const page of pages) {
      const owner = this.#owner[page];
      if (owner !== undefined && !owner.over) {
        throw new OwnershipViolation(
          `a page was freed twice, or too early: page ${page} was given out while epoch ${owner.set.epoch} (${owner.set.state}, ${owner.set.holds} holds) has it`,
        );
      }
      // what its last owner left there was never looked at
      if (owner === undefined) this.#checkFree(page);
      this.#owner[page] = reservation;
      this.#fill(page, reservation.blank);
    }
  }

  #checkReservation(reservation: Reservation): void {
    const { set, own, shared } = reservation;
    if (shared !== undefined && shared.over) {
      throw new OwnershipViolation(`pages of epoch ${shared.set.epoch} were freed while a fork reads them`);
    }
    for (const [place, page] of own.entries()) this.#checkPage(page, reservation, place + set.sharedPages);
  }

  #place({ set, own }: Reservation, page: number): number {
    return set.sharedPages + own.indexOf(page);
  }

  #checkFree(page: number): void {
    const end = (page + 1) * this.#pageWords;
    for (let at = page * this.#pageWords; at < end; at++) {
      if (this.#words[at] !== FREE)
        throw new OwnershipViolation(`a stale epoch wrote ${hex(this.#words[at])} into free page ${page}`);
    }
  }

  #checkPage(page: number, { set, mark, blank, shared }: Reservation, place: number): void {
    const marked = mark !== undefined && shared === undefined && place < mark.pages;
    const wanted = marked ? (mark.first + place) >>> 0 : blank;
    const complete = marked && !this.#sends && (set.state === 'committed' || set.state === 'owned');
    const untouched = !this.#sends && set.state === 'reserved';
    const end = (page + 1) * this.#pageWords;
    for (let at = page * this.#pageWords; at < end; at++) {
      const word = this.#words[at];
      if (word === wanted && !(untouched && marked)) continue;
      if (word === blank) {
        if (!complete) continue;
        throw new OwnershipViolation(`pages of epoch ${set.epoch} are ${set.state} before page ${page} was written`);
      }
      throw new OwnershipViolation(
        `a stale epoch wrote ${hex(word)} into page ${page} of epoch ${set.epoch} (${set.state}), where ${hex(wanted)} belongs`,
      );
    }
  }

  #fill(page: number, word: number): void {
    this.#words.fill(word, page * this.#pageWords, (page + 1) * this.#pageWords);
  }
}

function hex(word: number | undefined): string {
  return (word ?? 0).toString(16).padStart(8, '0');
}
