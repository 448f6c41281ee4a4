import type { GeneratedToken } from './types.ts';

type Result = IteratorResult<GeneratedToken, undefined>;

interface Taker {
  resolve(result: Result): void;
  reject(error: Error): void;
}

/**
 * The tokens of one sequence, from the engine's loop to one reader. Tokens pushed before an end or a failure are still delivered;
 * at most one answer's tokens are ever queued. A reader who stops early (`return`) calls `onReturn` once.
 */
export class TokenStream implements AsyncIterableIterator<GeneratedToken, undefined> {
  readonly #tokens: GeneratedToken[] = [];
  readonly #takers: Taker[] = [];
  readonly #onReturn: () => void;
  #end: { error: Error | undefined } | undefined;
  /** Called once at the end, whatever its cause. */
  onEnd: (() => void) | undefined;

  constructor(onReturn: () => void) {
    this.#onReturn = onReturn;
  }

  push(token: GeneratedToken): void {
    if (this.#end !== undefined) return;
    const taker = this.#takers.shift();
    if (taker === undefined) this.#tokens.push(token);
    else taker.resolve({ value: token, done: false });
  }

  /** No more tokens; with an error, reading fails after the tokens that are queued. The first call counts. */
  end(error?: Error): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.onEnd?.();
    for (const taker of this.#takers.splice(0)) settle(taker, error);
  }

  next(): Promise<Result> {
    const token = this.#tokens.shift();
    if (token !== undefined) return Promise.resolve({ value: token, done: false });
    return new Promise((resolve, reject) => {
      if (this.#end === undefined) {
        this.#takers.push({ resolve, reject });
        return;
      }
      // An error is told once; after it the stream is over.
      const { error } = this.#end;
      this.#end = { error: undefined };
      settle({ resolve, reject }, error);
    });
  }

  async return(): Promise<Result> {
    this.#tokens.length = 0;
    this.end();
    this.#onReturn();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

function settle(taker: Taker, error: Error | undefined): void {
  if (error === undefined) taker.resolve({ value: undefined, done: true });
  else taker.reject(error);
}
