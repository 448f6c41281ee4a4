import { fail, ServiceError } from '@causeway/errors';
import type { Lifecycle } from '@causeway/lifecycle';

/** Counts requests in the router and refuses what it must not take. */
export class Admission {
  readonly #lifecycle: Lifecycle;
  readonly #limit: number;
  #inFlight = 0;
  readonly #idle = new Set<() => void>();

  constructor(lifecycle: Lifecycle, limit: number) {
    this.#lifecycle = lifecycle;
    this.#limit = limit;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Takes a request in, or `count` at once, all or nothing; dispose to let them go.
   * @throws ServiceError `unavailable` (`draining`, `not_ready`), `resource_exhausted/queue_full` at the limit.
   */
  admit(count = 1): Disposable {
    const { state } = this.#lifecycle;
    if (state !== 'ready') throw notServing(state === 'starting' ? 'not_ready' : 'draining');
    if (count > 0 && this.#inFlight + count > this.#limit) {
      fail('resource_exhausted', 'queue_full', `the router holds ${this.#inFlight} requests, its limit; try again later`, {
        retry: 'same',
        retryAfterSeconds: 1,
      });
    }
    this.#inFlight += count;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#inFlight -= count;
        if (this.#inFlight > 0) return;
        for (const wake of this.#idle) wake();
        this.#idle.clear();
      },
    };
  }

  /** Resolves when no request is in the router. */
  idle(): Promise<void> {
    return this.#inFlight === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.add(resolve));
  }
}

function notServing(reason: 'not_ready' | 'draining'): ServiceError {
  const text = reason === 'draining' ? 'this router is shutting down; ask another' : 'this router is still starting';
  return new ServiceError(text, { code: 'unavailable', reason, retry: 'other', retryAfterSeconds: 1 });
}
