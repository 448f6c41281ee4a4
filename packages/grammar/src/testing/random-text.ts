/** Texts that an automaton allows, for tests. */
import { compileConstraint } from '../compile.ts';
import type { Constraint } from '../constraint.ts';
import { Automaton, DEAD } from '../machine/automaton.ts';

/** Characters that bring a document nearer to its end. */
const CLOSING = [0x22, 0x7d, 0x5d];
/** Bytes after which the hand ends the document by the shortest way, and places it looks at to find one. */
const LONG = 2_000;
const PLACES = 20_000;
/** A hand that takes every way meets more configurations than a model. */
const CONFIGURATIONS = 1_000_000;

export function automatonOf(constraint: Constraint): Automaton {
  const { machine, root } = compileConstraint(constraint);
  return new Automaton(machine, root, CONFIGURATIONS);
}

/** Writes byte after byte, any that the automaton allows; throws where none is allowed before the end. */
export function randomText(automaton: Automaton, random: () => number): string {
  const bytes: number[] = [];
  for (let at = automaton.start; ; ) {
    if (automaton.accepting(at) && random() < 0.5) break;
    const allowed: number[] = [];
    for (let byte = 0; byte < 256; byte++) if (automaton.step(at, byte) !== DEAD) allowed.push(byte);
    if (allowed.length === 0 && automaton.accepting(at)) break;
    const closing = allowed.filter((byte) => CLOSING.includes(byte));
    const wanted = closing.length > 0 && random() < 0.3 ? closing : allowed;
    const byte = wanted[Math.floor(random() * wanted.length)];
    if (byte === undefined) throw new Error(`nothing can follow ${JSON.stringify(Buffer.from(bytes).toString())}`);
    bytes.push(byte);
    at = automaton.step(at, byte);
    if (bytes.length <= LONG) continue;
    bytes.push(...shortestEnd(automaton, at));
    break;
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
}

/** The fewest bytes that bring the automaton from a place to an end; throws when there is none near. */
function shortestEnd(automaton: Automaton, start: number): number[] {
  const from = new Map<number, { before: number; byte: number }>();
  const queue = [start];
  for (const at of queue) {
    if (automaton.accepting(at)) {
      const bytes: number[] = [];
      for (let place = at; place !== start; ) {
        const step = from.get(place) as { before: number; byte: number };
        bytes.unshift(step.byte);
        place = step.before;
      }
      return bytes;
    }
    if (queue.length > PLACES) break;
    for (let byte = 0; byte < 256; byte++) {
      const next = automaton.step(at, byte);
      if (next === DEAD || next === start || from.has(next)) continue;
      from.set(next, { before: at, byte });
      queue.push(next);
    }
  }
  throw new Error(`no end within ${PLACES} places`);
}

/** The automaton reads the text to its end. */
export function accepts(automaton: Automaton, text: string): boolean {
  return automaton.accepting(automaton.read(automaton.start, new TextEncoder().encode(text)));
}
