/** Lets several waiters sleep until something may have changed for them. */
export class Wakeup {
  #next = Promise.withResolvers<void>();

  /** Resolves at the next `wake`. */
  get waiting(): Promise<void> {
    return this.#next.promise;
  }

  wake(): void {
    const woken = this.#next;
    this.#next = Promise.withResolvers<void>();
    woken.resolve();
  }
}
