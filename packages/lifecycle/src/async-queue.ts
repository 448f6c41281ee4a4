import { fail } from '@causeway/errors';

interface Waiter {
  wake: () => void;
}

/**
 * A bounded queue between one or more producers and consumers.
 * Overflow: `push` waits for room, `tryPush` refuses. After `close` items already queued are still delivered; after `fail` they are dropped.
 */
export class AsyncQueue<T> implements AsyncIterable<T>, Disposable {
  readonly capacity: number;
  readonly #items: T[] = [];
  #head = 0;
  #closed = false;
  #error: Error | undefined;
  readonly #takers = new Set<Waiter>();
  readonly #pushers = new Set<Waiter>();

  /** `capacity`: most items held, at least 1. */
  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1)
      fail('invalid_argument', 'internal', `a queue holds at least 1 item, not ${capacity}`);
    this.capacity = capacity;
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Adds the item if there is room; false when full or closed. */
  tryPush(item: T): boolean {
    if (this.#closed || this.size >= this.capacity) return false;
    this.#items.push(item);
    wakeOne(this.#takers);
    return true;
  }

  /** Adds the item, waiting for room; false when the queue is closed meanwhile. Rejects with the signal's reason when it aborts. */
  async push(item: T, signal?: AbortSignal): Promise<boolean> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#closed) return false;
      if (this.tryPush(item)) return true;
      await this.#wait(this.#pushers, signal);
    }
  }

  /** The next item in order; undefined when closed and empty. Rejects with the error given to `fail`, or the signal's reason. */
  async shift(signal?: AbortSignal): Promise<T | undefined> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#error !== undefined) throw this.#error;
      if (this.size > 0) return this.#take();
      if (this.#closed) return undefined;
      await this.#wait(this.#takers, signal);
    }
  }

  /** No more items; consumers end after what is queued. Idempotent. */
  close(): void {
    this.#closed = true;
    wakeAll(this.#takers);
    wakeAll(this.#pushers);
  }

  /** Ends the queue with an error; queued items are dropped. */
  fail(error: Error): void {
    if (this.#closed && this.#error !== undefined) return;
    this.#error = error;
    this.#items.length = 0;
    this.#head = 0;
    this.close();
  }

  [Symbol.dispose](): void {
    this.#items.length = 0;
    this.#head = 0;
    this.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const item = await this.shift();
      if (item === undefined && this.size === 0 && this.#closed) return;
      yield item as T;
    }
  }

  #take(): T {
    const item = this.#items[this.#head] as T;
    this.#items[this.#head] = undefined as T;
    this.#head++;
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    wakeOne(this.#pushers);
    return item;
  }

  #wait(waiters: Set<Waiter>, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        wake: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = (): void => {
        // A wake-up that was meant for this waiter has not happened: it is still in the set.
        waiters.delete(waiter);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      waiters.add(waiter);
    });
  }
}

function wakeOne(waiters: Set<Waiter>): void {
  for (const waiter of waiters) {
    waiters.delete(waiter);
    waiter.wake();
    return;
  }
}

function wakeAll(waiters: Set<Waiter>): void {
  const all = [...waiters];
  waiters.clear();
  for (const waiter of all) waiter.wake();
}
