/**
 * Which tokens may be drawn: a prefix of the vocabulary ordered by logit (descending), then id (ascending). The prefix is found
 * by a radix search over the logits' bits in O(vocabulary), without sorting.
 */

/** The prefix's end: every token whose key is above `key`, and of those whose key equals it the `ties` with the lowest ids. */
export interface Cut {
  key: number;
  ties: number;
  /** Weight of the whole prefix. */
  mass: number;
}

const BINS = 0x10000;

/** Order-preserving map of a float's bits to an unsigned integer: a larger float has a larger key; -0 sorts below 0. */
export function orderKey(bits: number): number {
  return (bits & 0x8000_0000 ? ~bits : bits | 0x8000_0000) >>> 0;
}

/** Finds prefixes of one row of logits. Buffers are made once and reused for every row; not reentrant. */
export class NucleusSearch {
  readonly #keys: Uint32Array;
  /** Ids of the tokens a cut keeps. */
  readonly #kept: Uint32Array;
  readonly #coarseCount = new Uint32Array(BINS);
  readonly #coarseMass = new Float64Array(BINS);
  readonly #fineCount = new Uint32Array(BINS);
  readonly #fineMass = new Float64Array(BINS);
  #weights: Float64Array;

  constructor(vocabSize: number) {
    this.#keys = new Uint32Array(vocabSize);
    this.#kept = new Uint32Array(vocabSize);
    this.#weights = new Float64Array(0);
  }

  /** Takes a row: logits f32 [vocabSize] and their weights (not normalised) [vocabSize]. */
  load(logits: Float32Array, weights: Float64Array): void {
    const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
    const keys = this.#keys;
    const count = this.#coarseCount.fill(0);
    const mass = this.#coarseMass.fill(0);
    const order = orderKey;
    for (let id = 0; id < keys.length; id++) {
      const key = order(bits[id] as number);
      keys[id] = key;
      const bin = key >>> 16;
      count[bin] = (count[bin] as number) + 1;
      mass[bin] = (mass[bin] as number) + (weights[id] as number);
    }
    this.#weights = weights;
  }

  /** The shortest prefix with at least `tokens` tokens and at least `mass` weight; the whole row when there is none. */
  cut(tokens: number, mass: number): Cut {
    const coarse = walk(this.#coarseCount, this.#coarseMass, tokens, mass, 0, 0);
    if (coarse === undefined) return { key: 0, ties: this.#keys.length, mass: Number.POSITIVE_INFINITY };
    const fineCount = this.#fineCount.fill(0);
    const fineMass = this.#fineMass.fill(0);
    const keys = this.#keys;
    for (let id = 0; id < keys.length; id++) {
      const key = keys[id] as number;
      if (key >>> 16 !== coarse.bin) continue;
      const bin = key & 0xffff;
      fineCount[bin] = (fineCount[bin] as number) + 1;
      fineMass[bin] = (fineMass[bin] as number) + (this.#weights[id] as number);
    }
    // Sums of one bin in another order may fall short of the coarse sum by a rounding error: then all of the bin belongs.
    const fine = walk(fineCount, fineMass, tokens, mass, coarse.tokens, coarse.mass) ?? lowest(fineCount, fineMass, coarse);
    const equal = fineCount[fine.bin] as number;
    const weight = (fineMass[fine.bin] as number) / equal;
    const byMass = weight > 0 ? Math.ceil((mass - fine.mass) / weight) : 1;
    const ties = Math.min(equal, Math.max(1, tokens - fine.tokens, byMass));
    return { key: coarse.bin * BINS + fine.bin, ties, mass: fine.mass + ties * weight };
  }

  /** Draws: the kept token at which the running weight, in id order, passes `u` (in [0, 1)) of the kept weight. */
  draw(cut: Cut, u: number): number {
    const keys = this.#keys;
    const weights = this.#weights;
    const kept = this.#kept;
    let ties = cut.ties;
    let count = 0;
    let mass = 0;
    for (let id = 0; id < keys.length; id++) {
      const key = keys[id] as number;
      if (key < cut.key || (key === cut.key && ties-- <= 0)) continue;
      const weight = weights[id] as number;
      if (weight === 0) continue;
      mass += weight;
      kept[count++] = id;
    }
    const target = u * mass;
    let passed = 0;
    for (let i = 0; i < count; i++) {
      const id = kept[i] as number;
      passed += weights[id] as number;
      if (passed > target) return id;
    }
    return count === 0 ? 0 : (kept[count - 1] as number);
  }
}

/** Draws from a whole row: as {@link NucleusSearch.draw} without a cut. `mass` is what the weights add up to in id order. */
export function drawFromRow(weights: Float64Array, mass: number, u: number): number {
  const target = u * mass;
  let passed = 0;
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id] as number;
    if (weight === 0) continue;
    passed += weight;
    last = id;
    if (passed > target) return id;
  }
  return last;
}

interface Reached {
  bin: number;
  /** Tokens and weight above this bin. */
  tokens: number;
  mass: number;
}

/** From the top bin down: the bin in which both `tokens` and `mass` are reached. */
function walk(
  counts: Uint32Array,
  masses: Float64Array,
  tokens: number,
  mass: number,
  tokensAbove: number,
  massAbove: number,
): Reached | undefined {
  let seen = tokensAbove;
  let weight = massAbove;
  for (let bin = BINS - 1; bin >= 0; bin--) {
    const count = counts[bin] as number;
    if (count === 0) continue;
    const next = weight + (masses[bin] as number);
    if (seen + count >= tokens && next >= mass) return { bin, tokens: seen, mass: weight };
    seen += count;
    weight = next;
  }
  return undefined;
}

function lowest(counts: Uint32Array, masses: Float64Array, above: Reached): Reached {
  const bin = counts.findIndex((count) => count > 0);
  const last = { bin, tokens: above.tokens, mass: above.mass };
  for (let other = bin + 1; other < BINS; other++) {
    last.tokens += counts[other] as number;
    last.mass += masses[other] as number;
  }
  return last;
}
