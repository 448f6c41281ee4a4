/** Texts that an automaton allows, for tests. */
import { compileConstraint } from '../compile.ts';
import type { Constraint } from '../constraint.ts';
import { Automaton, DEAD } from '../machine/automaton.ts';

/** Characters that bring a document nearer to its end. */
const CLOSING = [0x22, 0x7d, 0x5d];
/** Bytes after which only closing ones are chosen, where there are any, and after which there is no end. */
const LONG = 2_000;
const ENDLESS = 50_000;

export function automatonOf(constraint: Constraint): Automaton {
  const { machine, root } = compileConstraint(constraint);
  return new Automaton(machine, root);
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
    const wanted = closing.length > 0 && (bytes.length > LONG || random() < 0.3) ? closing : allowed;
    const byte = wanted[Math.floor(random() * wanted.length)];
    if (byte === undefined) throw new Error(`nothing can follow ${JSON.stringify(Buffer.from(bytes).toString())}`);
    if (bytes.length > ENDLESS) throw new Error(`endless: ${JSON.stringify(Buffer.from(bytes).toString().slice(0, 500))}`);
    bytes.push(byte);
    at = automaton.step(at, byte);
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
}

/** The automaton reads the text to its end. */
export function accepts(automaton: Automaton, text: string): boolean {
  return automaton.accepting(automaton.read(automaton.start, new TextEncoder().encode(text)));
}
