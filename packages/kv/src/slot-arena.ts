/** Equal slots of one native buffer, given out one at a time: bounded memory for frames on their way. */
import { ServiceError } from '@causeway/errors';
import { NativeBuffer } from '@causeway/ort';

/** One slot; release it exactly once (further calls do nothing). */
export interface Slot {
  /** Byte offset in the arena's buffer. */
  readonly offset: number;
  readonly byteLength: number;
  /** View of the slot, no copy. */
  readonly bytes: Uint8Array;
  release(): void;
}

interface Waiter {
  resolve(slot: Slot): void;
  reject(error: unknown): void;
}

/** `count` slots of `slotBytes` bytes. Disposing frees the memory once every slot is back, and refuses those who wait. */
export class SlotArena implements Disposable {
  readonly buffer: NativeBuffer;
  readonly slotBytes: number;
  readonly slots: number;
  readonly #free: number[];
  readonly #waiters: Waiter[] = [];
  #disposed = false;

  constructor(slotBytes: number, count: number) {
    this.slotBytes = slotBytes;
    this.slots = count;
    this.buffer = NativeBuffer.allocate(slotBytes * count);
    this.#free = Array.from({ length: count }, (_, index) => count - 1 - index);
  }

  get freeSlots(): number {
    return this.#free.length;
  }

  /** Those who wait for a slot now. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /** A slot at once, or undefined. Those who wait come first. */
  tryAcquire(): Slot | undefined {
    if (this.#disposed || this.#waiters.length > 0) return undefined;
    const index = this.#free.pop();
    return index === undefined ? undefined : this.#slot(index);
  }

  /** A slot, in order of asking. @throws the signal's reason, or ServiceError when the arena is disposed */
  async acquire(signal: AbortSignal): Promise<Slot> {
    signal.throwIfAborted();
    const slot = this.tryAcquire();
    if (slot !== undefined) return slot;
    if (this.#disposed) throw disposedError();
    return new Promise((resolve, reject) => {
      const give = (given: Slot) => {
        signal.removeEventListener('abort', abort);
        resolve(given);
      };
      const refuse = (error: unknown) => {
        signal.removeEventListener('abort', abort);
        reject(error);
      };
      const waiter: Waiter = { resolve: give, reject: refuse };
      const abort = () => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        refuse(signal.reason);
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#waiters.push(waiter);
    });
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(disposedError());
    this.#freeMemoryWhenIdle();
  }

  #slot(index: number): Slot {
    const offset = index * this.slotBytes;
    let held = true;
    return {
      offset,
      byteLength: this.slotBytes,
      bytes: this.buffer.bytes(offset, this.slotBytes),
      release: () => {
        if (!held) return;
        held = false;
        const waiter = this.#waiters.shift();
        if (waiter !== undefined) return waiter.resolve(this.#slot(index));
        this.#free.push(index);
        if (this.#disposed) this.#freeMemoryWhenIdle();
      },
    };
  }

  #freeMemoryWhenIdle(): void {
    if (this.#free.length === this.slots) this.buffer[Symbol.dispose]();
  }
}

function disposedError(): ServiceError {
  return new ServiceError('the KV transport is closing', { code: 'unavailable', reason: 'draining' });
}
