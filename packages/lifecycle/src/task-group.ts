import { linkSignals } from './signals.ts';

export interface TaskGroupOptions {
  /** Called once per task that rejects for another reason than the group's abort. Must not throw. */
  onCrash: (error: unknown, name: string) => void;
  /** Ends the group when it aborts. */
  signal?: AbortSignal;
}

/** Background work with an owner: every task has a name, a signal, and a crash that somebody hears. Disposing aborts all tasks and waits for them. */
export class TaskGroup implements AsyncDisposable {
  readonly #running = new Map<symbol, { name: string; done: Promise<void> }>();
  readonly #linked;
  readonly #onCrash;

  constructor(options: TaskGroupOptions) {
    this.#onCrash = options.onCrash;
    this.#linked = linkSignals(options.signal);
  }

  get signal(): AbortSignal {
    return this.#linked.signal;
  }

  /** Names of the tasks that run now. */
  get names(): string[] {
    return [...this.#running.values()].map((task) => task.name);
  }

  /** Starts a task. Does nothing when the group has ended. The promise settles with the task and never rejects. */
  spawn(name: string, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (this.signal.aborted) return Promise.resolve();
    const id = Symbol(name);
    const done = this.#guard(name, task).then(() => void this.#running.delete(id));
    this.#running.set(id, { name, done });
    return done;
  }

  /** Waits until no task runs, without aborting any. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all([...this.#running.values()].map((task) => task.done));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#linked.abort();
    await this.idle();
  }

  async #guard(name: string, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await task(this.signal);
    } catch (error) {
      if (!this.signal.aborted) this.#onCrash(error, name);
    }
  }
}
