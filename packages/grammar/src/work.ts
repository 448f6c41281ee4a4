/**
 * What compiling may cost, counted rather than timed, so that the verdict is the same on every machine. One constraint is compiled at a
 * time, without a pause: the count is the module's.
 */
import { refuse } from './grammar-error.ts';
import { GRAMMAR_LIMITS } from './limits.ts';
import type { CharDfa } from './regex/char-dfa.ts';

let left: number = GRAMMAR_LIMITS.work;
/** Automata of the patterns of this constraint: schemas have the same ones over and over. */
export const patternsMade = new Map<string, CharDfa>();

/** A new constraint begins. */
export function beginWork(): void {
  left = GRAMMAR_LIMITS.work;
  patternsMade.clear();
}

/** @throws GrammarError when the constraint has used up its share */
export function work(steps: number): void {
  left -= steps;
  if (left < 0) refuse('it is too complex: compiling its patterns takes too long. Let less of them match at once');
}
