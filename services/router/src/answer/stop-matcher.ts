import { partialMatch } from './partial-match.ts';

/** What became of a piece of text. */
export interface StopMatch {
  /** Text that may go to the client now. */
  text: string;
  /** A stop string was completed; nothing after `text` belongs to the answer. */
  stopped: boolean;
}

/** Finds stop strings in a stream of text, holding back only what may be the beginning of one. */
export class StopMatcher {
  readonly #stops: readonly string[];
  readonly #longest: number;
  #held = '';

  /** `stops`: none empty. */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
    this.#longest = Math.max(0, ...stops.map((stop) => stop.length));
  }

  /**
   * Takes the next piece; the earliest stop string ends the answer, itself left out. Those that end in a piece that is not `stoppable` are
   * passed over.
   */
  push(text: string, stoppable = true): StopMatch {
    if (this.#longest === 0) return { text, stopped: false };
    const all = this.#held + text;
    const at = stoppable ? this.#earliest(all, this.#held.length) : -1;
    if (at !== -1) {
      this.#held = '';
      return { text: all.slice(0, at), stopped: true };
    }
    const keep = partialMatch(all, this.#stops, this.#longest);
    this.#held = all.slice(all.length - keep);
    return { text: all.slice(0, all.length - keep), stopped: false };
  }

  /** What was held back, when the answer ends without a stop string. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /** Of those that end after `from`: what ends before was passed over. */
  #earliest(text: string, from: number): number {
    const found = this.#stops.map((stop) => text.indexOf(stop, from - stop.length + 1)).filter((at) => at !== -1);
    return found.length === 0 ? -1 : Math.min(...found);
  }
}
