/** The median of the last few values: follows what changes, and a single part that a busy machine delayed doesn't show. */

const WINDOW = 7;

export class RecentMedian {
  readonly #values: number[] = [];
  /** Values seen in all. */
  count = 0;

  add(value: number): void {
    this.count++;
    this.#values.push(value);
    if (this.#values.length > WINDOW) this.#values.shift();
  }

  /** NaN before the first. */
  get value(): number {
    const sorted = this.#values.toSorted((a, b) => a - b);
    const middle = sorted.length >> 1;
    if (sorted.length % 2 === 1) return sorted[middle] as number;
    return ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
  }
}
