import { Child, type ChildOptions } from './child.ts';

/** A server process that can be stopped and started again on the same port. */
export class RestartableServer implements AsyncDisposable {
  readonly #options: ChildOptions;
  readonly #ready: (child: Child) => Promise<void>;
  readonly #cleanup: () => Promise<void>;
  #child: Child | undefined;

  constructor(options: ChildOptions, ready: (child: Child) => Promise<void>, cleanup: () => Promise<void>) {
    this.#options = options;
    this.#ready = ready;
    this.#cleanup = cleanup;
  }

  /** The process that runs now. Throws when it is stopped. */
  get child(): Child {
    if (this.#child === undefined) throw new Error(`${this.#options.command} is not running`);
    return this.#child;
  }

  get pid(): number {
    return this.child.pid;
  }

  /** Starts it, if it isn't running, and waits until it answers. */
  async start(): Promise<void> {
    if (this.#child !== undefined && this.#child.exit === undefined) return;
    const child = new Child(this.#options);
    this.#child = child;
    try {
      await this.#ready(child);
    } catch (error) {
      await child.kill();
      throw new Error(`${child.describe()} did not start:\n${child.tail()}`, { cause: error });
    }
  }

  /** Ends it in an orderly way. */
  async stop(): Promise<void> {
    await this.#child?.stop();
  }

  /** KILL ends it at once; STOP and CONT suspend and resume it. */
  async signal(name: 'KILL' | 'STOP' | 'CONT' | 'TERM'): Promise<void> {
    this.child.signal(name);
    if (name === 'KILL' || name === 'TERM') await this.child.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child?.kill();
    await this.#cleanup();
  }
}
