import type { ExpertShape } from '@causeway/models';
import type { ExpertLoads } from '../placement/plan.ts';

/** Counts are halved this often, so that what was long ago says little. */
const HALF_LIFE_MS = 30_000;

/** How often each expert was chosen lately. */
export class LoadCounts {
  readonly #counts = new Map<number, Float64Array>();
  readonly #now: () => number;
  #halvedAt: number;
  #changed = false;

  constructor(shape: Pick<ExpertShape, 'layers' | 'experts'>, now: () => number = () => performance.now()) {
    for (const layer of shape.layers) this.#counts.set(layer, new Float64Array(shape.experts));
    this.#now = now;
    this.#halvedAt = now();
  }

  add(layer: number, expert: number, tokens: number): void {
    const counts = this.#counts.get(layer);
    if (counts === undefined) return;
    counts[expert] = (counts[expert] ?? 0) + tokens;
    this.#changed = true;
  }

  /** Whether something was added since the last call. */
  takeChanged(): boolean {
    const changed = this.#changed;
    this.#changed = false;
    return changed;
  }

  /** Tokens of each expert, by layer, older ones counted less. */
  get recent(): ExpertLoads {
    const halvings = Math.floor((this.#now() - this.#halvedAt) / HALF_LIFE_MS);
    if (halvings > 0) {
      this.#halvedAt += halvings * HALF_LIFE_MS;
      for (const counts of this.#counts.values()) for (const [i, count] of counts.entries()) counts[i] = count / 2 ** halvings;
    }
    return new Map([...this.#counts].map(([layer, counts]) => [layer, [...counts]]));
  }
}
