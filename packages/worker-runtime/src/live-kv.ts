import type { PageSet } from '@causeway/kv';

/** A prompt whose KV is in pages. */
export interface LivePrompt {
  pages: PageSet;
  tokens: number;
}

/** The prompts whose answers a worker is writing, by request. */
export class LiveKv {
  readonly #prompts = new Map<string, LivePrompt>();

  /** Adds a prompt; disposing takes it out. A later attempt at the same request replaces an earlier one. */
  add(requestId: string, pages: PageSet, tokens: number): Disposable {
    const prompt = { pages, tokens };
    this.#prompts.set(requestId, prompt);
    return {
      [Symbol.dispose]: () => {
        if (this.#prompts.get(requestId) === prompt) this.#prompts.delete(requestId);
      },
    };
  }

  find(requestId: string): LivePrompt | undefined {
    return this.#prompts.get(requestId);
  }

  /** Requests with a prompt, oldest first. */
  get requests(): readonly string[] {
    return [...this.#prompts.keys()];
  }
}
