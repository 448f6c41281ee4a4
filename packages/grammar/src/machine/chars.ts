/** Automata over code points as fragments over bytes. */
import type { CharDfa, CharEdge } from '../regex/char-dfa.ts';
import type { Machine, Piece } from './machine.ts';
import { utf8Ranges } from './utf8.ts';

/** How characters are written: as they are, or as in a JSON string (with escapes only where JSON demands them). */
export type Spelling = 'raw' | 'json';

/** JSON's short escapes of control characters. */
const SHORT_ESCAPES: Readonly<Record<number, string>> = { 8: 'b', 9: 't', 10: 'n', 12: 'f', 13: 'r' };
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Texts that the automaton reads. */
export function dfaPiece(dfa: CharDfa, spelling: Spelling): Piece {
  return (machine, from) => {
    const states = dfa.accept.map(() => machine.state());
    const end = machine.state();
    machine.skip(from, states[0] as number);
    dfa.accept.forEach((accepted, id) => {
      const state = states[id] as number;
      if (accepted) machine.skip(state, end);
      const byTarget = Map.groupBy(dfa.edges[id] as CharEdge[], ({ to }) => to);
      for (const [to, edges] of byTarget) addEdges(machine, state, edges, states[to] as number, spelling);
    });
    return end;
  };
}

/** Character classes of more states than this are rules of their own, made once for each place where they are used. */
const SMALL = 4;

function addEdges(machine: Machine, from: number, edges: readonly CharEdge[], to: number, spelling: Spelling): void {
  const addAll = (start: number, end: number): void => {
    for (const { low, high } of edges) addRange(machine, start, low, high, end, spelling);
  };
  const simple = edges.length <= SMALL && edges.every(({ low, high }) => high < 0x80 && (low >= 0x20 || low === high));
  if (simple) {
    addAll(from, to);
    return;
  }
  const name = `${spelling} ${edges.map(({ low, high }) => `${low}-${high}`).join()}`;
  const rule = machine.shared(name, (_, start) => {
    const end = machine.state();
    addAll(start, end);
    return end;
  });
  machine.call(from, rule, to);
}

/** Adds edges for the code points from `low` to `high`. */
export function addRange(machine: Machine, from: number, low: number, high: number, to: number, spelling: Spelling): void {
  if (spelling === 'raw') {
    addUtf8(machine, from, low, high, to);
    return;
  }
  for (let point = low; point <= Math.min(high, 0x1f); point++) addEscape(machine, from, controlEscape(point), to);
  let start = Math.max(low, 0x20);
  for (const point of [QUOTE, BACKSLASH]) {
    if (point < start || point > high) continue;
    addUtf8(machine, from, start, point - 1, to);
    addEscape(machine, from, String.fromCharCode(point), to);
    start = point + 1;
  }
  addUtf8(machine, from, start, high, to);
}

function controlEscape(point: number): string {
  return SHORT_ESCAPES[point] ?? `u${point.toString(16).padStart(4, '0')}`;
}

function addEscape(machine: Machine, from: number, escape: string, to: number): void {
  let at = from;
  const bytes = new TextEncoder().encode(`\\${escape}`);
  bytes.forEach((byte, i) => {
    const next = i === bytes.length - 1 ? to : machine.state();
    machine.byte(at, byte, byte, next);
    at = next;
  });
}

function addUtf8(machine: Machine, from: number, low: number, high: number, to: number): void {
  for (const ranges of utf8Ranges(low, high)) {
    let at = from;
    ranges.forEach(([first, last], i) => {
      const next = i === ranges.length - 1 ? to : machine.state();
      machine.byte(at, first, last, next);
      at = next;
    });
  }
}
