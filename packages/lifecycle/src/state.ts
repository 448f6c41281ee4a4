import { ServiceError } from '@causeway/errors';

/** Phases of a process, in order; none is entered twice. */
export const LIFECYCLE_STATES = ['starting', 'ready', 'draining', 'stopped'] as const;
export type LifecycleState = (typeof LIFECYCLE_STATES)[number];

export type LifecycleListener = (state: LifecycleState, reason: string) => void;

/** Where a process is between start and stop: starting -> ready -> draining -> stopped, forwards only. */
export class Lifecycle {
  #state: LifecycleState = 'starting';
  #reason = '';
  readonly #listeners = new Set<LifecycleListener>();
  readonly #draining = new AbortController();

  get state(): LifecycleState {
    return this.#state;
  }

  /** Aborts when draining (or stopping) begins: time to refuse new work. Its reason is a ServiceError `unavailable/draining`. */
  get drainSignal(): AbortSignal {
    return this.#draining.signal;
  }

  /** starting -> ready; false when the process already drains. */
  ready(): boolean {
    return this.#enter('ready', 'started');
  }

  /** Begins the drain; false when it has begun already. */
  drain(reason: string): boolean {
    return this.#enter('draining', reason);
  }

  /** The end; passes through draining when it was left out, so that its listeners always run. */
  stop(reason: string): boolean {
    this.#enter('draining', reason);
    return this.#enter('stopped', reason);
  }

  /** Calls `listener` at each change from now on, until disposed. */
  onChange(listener: LifecycleListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Resolves, with the reason, when draining begins. */
  drainRequested(): Promise<string> {
    const { signal } = this.#draining;
    if (signal.aborted) return Promise.resolve(this.#reason);
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(this.#reason), { once: true }));
  }

  #enter(next: LifecycleState, reason: string): boolean {
    if (LIFECYCLE_STATES.indexOf(next) <= LIFECYCLE_STATES.indexOf(this.#state)) return false;
    this.#state = next;
    for (const listener of this.#listeners) listener(next, reason);
    if (next === 'draining') {
      this.#reason = reason;
      this.#draining.abort(
        new ServiceError(`the process is stopping (${reason})`, { code: 'unavailable', reason: 'draining', retry: 'other' }),
      );
    }
    return true;
  }
}
