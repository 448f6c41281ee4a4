/** Answers remembered. */
const REMEMBERED = 64;
/** Answers needed before they count. */
const ENOUGH = 8;
/** Share of remembered answers that the growth covers. */
const COVERED = 0.75;

/** Guesses how long answers get, from those that ended here: the length that 75 % of the last 64 didn't exceed. */
export class AnswerLengths {
  readonly #lengths: number[] = [];
  readonly #initial: number;
  #next = 0;

  /** `initial`: tokens guessed until 8 answers were seen. */
  constructor(initial: number) {
    this.#initial = initial;
  }

  /** Notes the length of an answer that ended by itself, in tokens. */
  add(tokens: number): void {
    this.#lengths[this.#next] = tokens;
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  /** Answer tokens to reserve for a new sequence, at least 1. */
  get growth(): number {
    if (this.#lengths.length < ENOUGH) return this.#initial;
    const sorted = this.#lengths.toSorted((a, b) => a - b);
    return Math.max(1, sorted[Math.ceil(sorted.length * COVERED) - 1] as number);
  }
}
