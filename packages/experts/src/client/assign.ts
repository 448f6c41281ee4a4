/** Which shard is asked for which expert of one layer. */
import type { ExpertTokens } from './routed-tokens.ts';

/** What is known of a shard that could be asked. */
export interface Candidate {
  /** The time that a further frame will take it, about. */
  readonly pressure: number;
}

export interface Assignment<L> {
  /** Experts ascending for each. */
  byLink: Map<L, ExpertTokens[]>;
  /** Experts that nobody has. */
  homeless: ExpertTokens[];
}

/** A shard so many times as busy as another is left alone; below, what this layer asks of each decides. */
const BUSIER = 2;

/**
 * Gives each expert one of its homes, those with the most tokens first: of two drawn at random ("power of two choices", Mitzenmacher
 * 2001) the less busy one, and where both are about as busy the one of which this layer asks less so far, so that copies share what is
 * asked at once.
 */
export function assignExperts<L extends Candidate>(
  experts: readonly ExpertTokens[],
  homes: (one: ExpertTokens) => readonly L[],
  random: () => number,
): Assignment<L> {
  const byLink = new Map<L, ExpertTokens[]>();
  const homeless: ExpertTokens[] = [];
  const pairs = new Map<L, number>();
  for (const one of experts.toSorted((a, b) => b.tokens.length - a.tokens.length || a.expert - b.expert)) {
    const link = pick(homes(one), pairs, random);
    if (link === undefined) {
      homeless.push(one);
      continue;
    }
    pairs.set(link, (pairs.get(link) ?? 0) + one.tokens.length);
    const own = byLink.get(link) ?? [];
    byLink.set(link, own);
    own.push(one);
  }
  for (const own of [...byLink.values(), homeless]) own.sort((a, b) => a.expert - b.expert);
  return { byLink, homeless };
}

function pick<L extends Candidate>(links: readonly L[], pairs: ReadonlyMap<L, number>, random: () => number): L | undefined {
  if (links.length < 2) return links[0];
  const first = Math.floor(random() * links.length);
  const other = (first + 1 + Math.floor(random() * (links.length - 1))) % links.length;
  const [a, b] = [links[first] as L, links[other] as L];
  if (a.pressure > BUSIER * b.pressure) return b;
  if (b.pressure > BUSIER * a.pressure) return a;
  const [ofA, ofB] = [pairs.get(a) ?? 0, pairs.get(b) ?? 0];
  if (ofA !== ofB) return ofA < ofB ? a : b;
  return a.pressure <= b.pressure ? a : b;
}
