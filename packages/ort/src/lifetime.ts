import { fail } from '@causeway/errors';

/**
 * When a native object is freed: once, and only when it has been ended and nothing holds it.
 * Ending twice, or dropping a hold twice, does nothing; using or holding what was ended throws.
 */
export class Lifetime {
  readonly #what: string;
  #release: (() => void) | undefined;
  #holds = 0;
  #ended = false;

  constructor(what: string, release: () => void) {
    this.#what = what;
    this.#release = release;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** @throws ServiceError `failed_precondition/runtime` after `end`. */
  check(): void {
    if (this.#ended) fail('failed_precondition', 'runtime', `${this.#what} was used after it was disposed`);
  }

  /** Keeps the object until the result is disposed, whatever else ends it. */
  hold(): Disposable {
    this.check();
    this.#holds++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#holds--;
        this.#releaseWhenFree();
      },
    };
  }

  /** The owner is done with the object. */
  end(): void {
    this.#ended = true;
    this.#releaseWhenFree();
  }

  #releaseWhenFree(): void {
    if (!this.#ended || this.#holds > 0 || this.#release === undefined) return;
    const release = this.#release;
    this.#release = undefined;
    release();
  }
}
