import { refuse } from '../grammar-error.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';
import { patternsMade, work } from '../work.ts';
import { buildDfa, type CharDfa, complement, intersection, isEmpty } from './char-dfa.ts';
import type { CharSet } from './char-set.ts';
import { ANYTHING, parseRegex, type Regex } from './parse-regex.ts';

interface Node {
  chars: { set: CharSet; to: number }[];
  empty: number[];
  /** Followed only at the beginning of the text, and only at its end. */
  atStart: number[];
  atEnd: number[];
}

/** A nondeterministic automaton under construction (Thompson). */
class Nfa {
  readonly nodes: Node[] = [];

  node(): number {
    if (this.nodes.length >= GRAMMAR_LIMITS.patternStates) {
      refuse(`its pattern is too large: written out it has more than ${GRAMMAR_LIMITS.patternStates} characters`);
    }
    this.nodes.push({ chars: [], empty: [], atStart: [], atEnd: [] });
    return this.nodes.length - 1;
  }

  at(id: number): Node {
    return this.nodes[id] as Node;
  }

  /** Adds `regex` after `from`; gives its end. */
  add(regex: Regex, from: number): number {
    switch (regex.kind) {
      case 'sequence':
        return regex.parts.reduce((at, part) => this.add(part, at), from);
      case 'chars': {
        const to = this.node();
        this.at(from).chars.push({ set: regex.set, to });
        return to;
      }
      case 'start': {
        const to = this.node();
        this.at(from).atStart.push(to);
        return to;
      }
      case 'end': {
        const to = this.node();
        this.at(from).atEnd.push(to);
        return to;
      }
      case 'either': {
        const to = this.node();
        for (const branch of regex.branches) {
          const start = this.node();
          this.at(from).empty.push(start);
          this.at(this.add(branch, start)).empty.push(to);
        }
        return to;
      }
      case 'repeat':
        return this.#repeat(regex, from);
    }
  }

  #repeat({ part, min, max }: Extract<Regex, { kind: 'repeat' }>, from: number): number {
    let at = from;
    for (let i = 0; i < min; i++) at = this.add(part, at);
    const end = this.node();
    if (!Number.isFinite(max)) {
      const loop = this.node();
      this.at(at).empty.push(loop);
      this.at(this.add(part, loop)).empty.push(loop);
      this.at(loop).empty.push(end);
      return end;
    }
    for (let i = min; i < max; i++) {
      this.at(at).empty.push(end);
      at = this.add(part, at);
    }
    this.at(at).empty.push(end);
    return end;
  }

  /** The deterministic automaton of the texts that lead from `start` to `end`. */
  toDfa(start: number, end: number): CharDfa {
    return buildDfa<number[]>(
      this.#closure([start], true, false),
      (set) => set.join(),
      (set) =>
        this.#closure(set, false, true).includes(end) || (set.includes(start) && this.#closure(set, true, true).includes(end)),
      (set) => this.#steps(set),
    );
  }

  #closure(from: readonly number[], atStart: boolean, atEnd: boolean): number[] {
    const seen = new Set(from);
    for (const id of seen) {
      work(1);
      const node = this.at(id);
      for (const to of node.empty) seen.add(to);
      if (atStart) for (const to of node.atStart) seen.add(to);
      if (atEnd) for (const to of node.atEnd) seen.add(to);
    }
    return [...seen].sort((a, b) => a - b);
  }

  /** Splits the code points where any of the sets begins or ends. */
  #steps(set: readonly number[]): { low: number; high: number; to: number[] }[] {
    const edges = set.flatMap((id) =>
      this.at(id).chars.flatMap((edge) => edge.set.map(([low, high]) => ({ low, high, to: edge.to }))),
    );
    const begins = [...new Set(edges.flatMap(({ low, high }) => [low, high + 1]))].sort((a, b) => a - b);
    const closures = new Map<string, number[]>();
    const starts = edges.sort((a, b) => a.low - b.low);
    const steps: { low: number; high: number; to: number[] }[] = [];
    let active: typeof edges = [];
    let next = 0;
    begins.forEach((low, i) => {
      active = active.filter(({ high }) => high >= low);
      for (; next < starts.length && (starts[next]?.low ?? 0) <= low; next++) active.push(starts[next] as (typeof edges)[number]);
      if (active.length === 0) return;
      const targets = [...new Set(active.map(({ to }) => to))].sort((a, b) => a - b);
      const key = targets.join();
      const to = closures.get(key) ?? this.#closure(targets, false, false);
      closures.set(key, to);
      steps.push({ low, high: (begins[i + 1] ?? low + 1) - 1, to });
    });
    return steps;
  }
}

function dfaOf(body: Regex): CharDfa {
  const nfa = new Nfa();
  const start = nfa.node();
  return nfa.toDfa(start, nfa.add(body, start));
}

const surrounded = (body: Regex): Regex => ({ kind: 'sequence', parts: [ANYTHING, body, ANYTHING] });
const begun = (body: Regex): Regex => ({ kind: 'sequence', parts: [body, ANYTHING] });

/**
 * Texts that a pattern matches as a whole, which is more than JSON Schema asks (it must only be found somewhere); where no text
 * matches as a whole, those in which it is found.
 * @throws GrammarError as `parseRegex`, and when the automaton gets too large
 */
export function patternDfa(pattern: string, whole: 'whole' | 'found' = 'whole'): CharDfa {
  const key = `${whole} ${pattern}`;
  const dfa = patternsMade.get(key) ?? makePatternDfa(pattern, whole);
  patternsMade.set(key, dfa);
  return dfa;
}

function makePatternDfa(pattern: string, whole: 'whole' | 'found'): CharDfa {
  const { body, lookaheads } = parseRegex(pattern);
  // Only an expression that is anchored has look-aheads at the beginning of the text.
  let dfa = dfaOf(whole === 'whole' ? body : surrounded(body));
  for (const { negative, body: ahead } of lookaheads) {
    const begins = dfaOf(begun(ahead));
    dfa = intersection(dfa, negative ? complement(begins) : begins);
  }
  return dfa;
}

/** `patternDfa` within another automaton. */
export function patternWithin(pattern: string, other: CharDfa | undefined): CharDfa {
  const within = (dfa: CharDfa): CharDfa => (other === undefined ? dfa : intersection(dfa, other));
  const whole = within(patternDfa(pattern));
  return isEmpty(whole) ? within(patternDfa(pattern, 'found')) : whole;
}
