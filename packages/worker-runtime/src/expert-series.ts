/** Which series count the tokens of which expert: a model of thousands of experts doesn't make as many. */

/** Experts of a layer that have a series of their own at first, and at most: the most used change. */
const TOP_EXPERTS = 8;
const MOST_SERIES = 16;

/** Tokens of one layer's experts as counters that never fall: an expert that got a series keeps it, the others are `rest`. */
export class ExpertSeries {
  readonly #counted: Float64Array;
  readonly #own = new Set<number>();

  constructor(experts: number) {
    this.#counted = new Float64Array(experts);
  }

  /** Gives what each series rises by since the last call; `totals` are the tokens of each expert so far. */
  raise(totals: Float64Array, inc: (expert: string, by: number) => void): void {
    const order = [...totals.keys()].sort((a, b) => (totals[b] ?? 0) - (totals[a] ?? 0) || a - b);
    for (const expert of order.slice(0, TOP_EXPERTS)) {
      if ((totals[expert] ?? 0) > 0 && this.#own.size < MOST_SERIES) this.#own.add(expert);
    }
    let rest = 0;
    for (const [expert, total] of totals.entries()) {
      const by = total - (this.#counted[expert] ?? 0);
      this.#counted[expert] = total;
      if (this.#own.has(expert)) inc(String(expert), by);
      else rest += by;
    }
    inc('rest', rest);
  }
}
