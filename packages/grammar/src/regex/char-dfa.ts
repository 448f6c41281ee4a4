/** Deterministic automata over code points: what patterns, formats, lengths and number ranges become before they become bytes. */
import { refuse } from '../grammar-error.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';
import { work } from '../work.ts';

export const LAST_CODE_POINT = 0x10ffff;

export interface CharEdge {
  low: number;
  high: number;
  to: number;
}

/** State 0 is the start. A state's edges are disjoint, sorted; where none fits, the text is refused. */
export interface CharDfa {
  accept: boolean[];
  edges: CharEdge[][];
}

/** Whether the automaton reads the whole text. */
export function matches(dfa: CharDfa, text: string): boolean {
  let at = 0;
  for (const character of text) {
    const point = character.codePointAt(0) as number;
    const edge = dfa.edges[at]?.find(({ low, high }) => point >= low && point <= high);
    if (edge === undefined) return false;
    at = edge.to;
  }
  return dfa.accept[at] === true;
}

/**
 * The automaton of a step function over values, numbered as they are met; states of equal `key` are one.
 * @throws GrammarError when there are too many
 */
export function buildDfa<S>(
  start: S,
  key: (state: S) => string | number,
  accepts: (state: S) => boolean,
  steps: (state: S) => { low: number; high: number; to: S }[],
): CharDfa {
  const dfa: CharDfa = { accept: [], edges: [] };
  const ids = new Map<string | number, number>();
  const states: S[] = [];
  const idOf = (state: S): number => {
    const name = key(state);
    const known = ids.get(name);
    if (known !== undefined) return known;
    if (states.length >= GRAMMAR_LIMITS.patternStates) {
      refuse(`its pattern is too large: its automaton has more than ${GRAMMAR_LIMITS.patternStates} states`);
    }
    ids.set(name, states.length);
    states.push(state);
    return states.length - 1;
  };
  idOf(start);
  for (let id = 0; id < states.length; id++) {
    const state = states[id] as S;
    work(10);
    dfa.accept[id] = accepts(state);
    const edges = joined(steps(state).map(({ low, high, to }) => ({ low, high, to: idOf(to) })));
    work(edges.length);
    dfa.edges[id] = edges;
  }
  return dfa;
}

/** Sorted edges, neighbours to the same state joined. */
function joined(edges: CharEdge[]): CharEdge[] {
  const result: CharEdge[] = [];
  for (const edge of edges.sort((a, b) => a.low - b.low)) {
    const last = result.at(-1);
    if (last !== undefined && last.to === edge.to && last.high + 1 === edge.low) last.high = edge.high;
    else result.push({ ...edge });
  }
  return result;
}

/** Texts that both read. */
export function intersection(a: CharDfa, b: CharDfa): CharDfa {
  return buildDfa<[number, number]>(
    [0, 0],
    ([p, q]) => p * b.accept.length + q,
    ([p, q]) => a.accept[p] === true && b.accept[q] === true,
    ([p, q]) => {
      const steps: { low: number; high: number; to: [number, number] }[] = [];
      const left = a.edges[p] as CharEdge[];
      const right = b.edges[q] as CharEdge[];
      for (let i = 0, j = 0; i < left.length && j < right.length; ) {
        const [x, y] = [left[i] as CharEdge, right[j] as CharEdge];
        const low = Math.max(x.low, y.low);
        const high = Math.min(x.high, y.high);
        if (low <= high) steps.push({ low, high, to: [x.to, y.to] });
        if (x.high <= y.high) i++;
        else j++;
      }
      return steps;
    },
  );
}

/** Texts that it does not read. */
export function complement(dfa: CharDfa): CharDfa {
  const sink = dfa.accept.length;
  const edges = dfa.edges.map((list) => {
    const all: CharEdge[] = [];
    let from = 0;
    for (const edge of list) {
      if (edge.low > from) all.push({ low: from, high: edge.low - 1, to: sink });
      all.push(edge);
      from = edge.high + 1;
    }
    if (from <= LAST_CODE_POINT) all.push({ low: from, high: LAST_CODE_POINT, to: sink });
    return all;
  });
  return {
    accept: [...dfa.accept.map((accepted) => !accepted), true],
    edges: [...edges, [{ low: 0, high: LAST_CODE_POINT, to: sink }]],
  };
}

/** It reads no text at all. */
export function isEmpty(dfa: CharDfa): boolean {
  const seen = new Set([0]);
  for (const state of seen) {
    if (dfa.accept[state] === true) return false;
    for (const { to } of dfa.edges[state] as CharEdge[]) seen.add(to);
  }
  return true;
}

/** Texts of so many characters; `max` may be Infinity. */
export function lengthDfa(min: number, max: number): CharDfa {
  const last = Number.isFinite(max) ? max : min;
  return buildDfa<number>(
    0,
    (length) => length,
    (length) => length >= min && length <= max,
    (length) => {
      const to = length < last ? length + 1 : Number.isFinite(max) ? undefined : length;
      return to === undefined ? [] : [{ low: 0, high: LAST_CODE_POINT, to }];
    },
  );
}

/** Every text but these. */
export function allBut(texts: readonly string[]): CharDfa {
  const refused = new Set(texts);
  /** Beginnings of refused texts, with the characters that go on. */
  const goesOn = new Map<string, Set<string>>();
  for (const text of refused) {
    let at = '';
    for (const character of text) {
      goesOn.set(at, (goesOn.get(at) ?? new Set()).add(character));
      at += character;
    }
  }
  // undefined: no refused text any more.
  return buildDfa<string | undefined>(
    '',
    (at) => (at === undefined ? 'free' : `=${at}`),
    (at) => at === undefined || !refused.has(at),
    (at) => {
      const steps: { low: number; high: number; to: string | undefined }[] = [];
      let from = 0;
      const points = [...(at === undefined ? [] : (goesOn.get(at) ?? []))].map((c) => c.codePointAt(0) as number);
      for (const point of points.sort((a, b) => a - b)) {
        if (point > from) steps.push({ low: from, high: point - 1, to: undefined });
        steps.push({ low: point, high: point, to: (at ?? '') + String.fromCodePoint(point) });
        from = point + 1;
      }
      if (from <= LAST_CODE_POINT) steps.push({ low: from, high: LAST_CODE_POINT, to: undefined });
      return steps;
    },
  );
}
