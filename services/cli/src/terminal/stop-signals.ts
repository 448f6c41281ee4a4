/** The part of `process` that signals come from. */
export interface SignalSource {
  on(event: NodeJS.Signals, listener: () => void): unknown;
  off(event: NodeJS.Signals, listener: () => void): unknown;
}

/** A closed terminal (SIGHUP) asks for the same end as Ctrl-C. */
const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Counts requests to stop; the first aborts `signal`. Dispose gives the signals back to their defaults. */
export class StopSignals implements Disposable {
  readonly #source: SignalSource;
  readonly #listeners: [NodeJS.Signals, () => void][];
  readonly #abort = new AbortController();
  readonly requested: Promise<void>;
  count = 0;

  constructor(source: SignalSource, onSignal: (count: number, name: NodeJS.Signals) => void) {
    this.#source = source;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.requested = promise;
    this.#listeners = SIGNALS.map((name) => [
      name,
      () => {
        this.count += 1;
        onSignal(this.count, name);
        this.#abort.abort(new Error(`stopped by ${name}`));
        resolve();
      },
    ]);
    for (const [name, listener] of this.#listeners) source.on(name, listener);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  [Symbol.dispose](): void {
    for (const [name, listener] of this.#listeners) this.#source.off(name, listener);
  }
}
