/** Comparing what was computed with a reference. Nothing here loads or runs a model. */

/** Largest |a - b| over two rows of the same length. NaN anywhere gives Infinity. */
export function largestError(row: ArrayLike<number>, reference: ArrayLike<number>): number {
  if (row.length !== reference.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < row.length; i++) {
    const error = Math.abs((row[i] as number) - (reference[i] as number));
    if (!(error <= largest)) largest = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  }
  return largest;
}

/** Natural log of softmax at the given token ids. */
export function logSoftmaxAt(row: Float32Array, tokens: readonly number[]): number[] {
  let max = Number.NEGATIVE_INFINITY;
  for (const value of row) if (value > max) max = value;
  let sum = 0;
  for (const value of row) sum += Math.exp(value - max);
  const normaliser = max + Math.log(sum);
  return tokens.map((token) => (row[token] ?? Number.NaN) - normaliser);
}

export interface GreedyComparison {
  /** Tokens equal to the reference from the start. */
  agreed: number;
  /** Tokens that had to be equal. */
  required: number;
  /** Tokens of the reference. */
  total: number;
  ok: boolean;
}

/**
 * Compares a greedy answer with the reference up to the first position where the reference's two best logits are closer than
 * `minMargin`: from there on a tie may fall either way. An answer that ends early at an end-of-sequence token counts as it is.
 */
export function compareGreedy(
  tokens: readonly number[],
  reference: readonly number[],
  margins: readonly number[],
  minMargin: number,
): GreedyComparison {
  const doubtful = margins.findIndex((margin) => margin < minMargin);
  const required = doubtful === -1 ? reference.length : Math.min(doubtful, reference.length);
  let agreed = 0;
  while (agreed < reference.length && tokens[agreed] === reference[agreed]) agreed++;
  return { agreed, required, total: reference.length, ok: agreed >= required };
}
