import { fail, ServiceError } from '@causeway/errors';
import type { PagePool, PageSet } from '@causeway/kv';

interface Waiter {
  pages: number;
  /** Resumed sequences stand before new ones, in the order in which they once arrived; undefined: a new one. */
  arrival: number | undefined;
  grant(pages: PageSet): void;
  refuse(error: ServiceError): void;
}

/**
 * The line of those who wait for pages: first come, first served, all or nothing, so that a large request is never passed over
 * for ever by small ones. Preempted sequences come first, oldest first. New requests beyond `maxWaiting` are refused; preempted
 * ones never are.
 */
export class ReservationLine implements Disposable {
  readonly #pool: PagePool;
  readonly #maxWaiting: number;
  readonly #waiters: Waiter[] = [];
  readonly #listening: Disposable;
  #granting = false;
  #closed = false;

  constructor(pool: PagePool, maxWaiting: number) {
    this.#pool = pool;
    this.#maxWaiting = maxWaiting;
    this.#listening = pool.onFreed(() => this.#grant());
  }

  /** Reservations that wait. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /**
   * Pages for a new request, at the end of the line.
   * @throws ServiceError `resource_exhausted/no_capacity` when the pool is too small for ever or the line is full,
   *   `cancelled` or `deadline_exceeded` by the signal, `unavailable/draining` when the engine is closed.
   */
  async reserve(pages: number, signal: AbortSignal): Promise<PageSet> {
    if (pages > this.#pool.totalPages) {
      fail(
        'resource_exhausted',
        'no_capacity',
        `the request needs ${pages} KV pages and this worker has ${this.#pool.totalPages} in all: shorten it or raise the KV budget`,
        { retry: 'other' },
      );
    }
    if (this.#waiters.length >= this.#maxWaiting) {
      fail('resource_exhausted', 'no_capacity', `${this.#waiters.length} requests already wait for KV memory here`, {
        retry: 'other',
        retryAfterSeconds: 1,
      });
    }
    return this.#wait(pages, undefined, signal);
  }

  /** Pages for a preempted sequence: before new requests, and before preempted ones that arrived later. */
  async reserveAgain(pages: number, arrival: number, signal: AbortSignal): Promise<PageSet> {
    return this.#wait(pages, arrival, signal);
  }

  /** Refuses all who wait and all who come. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.#listening[Symbol.dispose]();
    for (const waiter of this.#waiters.splice(0)) waiter.refuse(closed());
  }

  #wait(pages: number, arrival: number | undefined, signal: AbortSignal): Promise<PageSet> {
    if (this.#closed) throw closed();
    if (signal.aborted) throw ServiceError.from(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers<PageSet>();
    const onAbort = (): void => {
      const index = this.#waiters.indexOf(waiter);
      if (index < 0) return;
      this.#waiters.splice(index, 1);
      reject(ServiceError.from(signal.reason));
      this.#grant();
    };
    const settled = (): void => signal.removeEventListener('abort', onAbort);
    const waiter: Waiter = {
      pages,
      arrival,
      grant: (set) => {
        settled();
        resolve(set);
      },
      refuse: (error) => {
        settled();
        reject(error);
      },
    };
    signal.addEventListener('abort', onAbort, { once: true });
    this.#waiters.splice(this.#placeOf(arrival), 0, waiter);
    this.#grant();
    return promise;
  }

  #placeOf(arrival: number | undefined): number {
    if (arrival === undefined) return this.#waiters.length;
    const place = this.#waiters.findIndex((other) => other.arrival === undefined || other.arrival > arrival);
    return place < 0 ? this.#waiters.length : place;
  }

  /** Serves the line from its head while pages last. */
  #grant(): void {
    if (this.#granting) return;
    this.#granting = true;
    try {
      for (let head = this.#waiters[0]; head !== undefined; head = this.#waiters[0]) {
        const set = this.#pool.reserve(head.pages);
        if (set === undefined) return;
        this.#waiters.shift();
        head.grant(set);
      }
    } finally {
      this.#granting = false;
    }
  }
}

function closed(): ServiceError {
  return new ServiceError('this worker is shutting down', { code: 'unavailable', reason: 'draining', retry: 'other' });
}
