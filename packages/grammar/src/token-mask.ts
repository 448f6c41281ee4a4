import { type Automaton, DEAD } from './machine/automaton.ts';
import type { Vocabulary } from './vocabulary.ts';

/** 32 tokens a word, the lowest id in the lowest bit; 1: allowed. */
export type TokenMask = Uint32Array;

export function allows(mask: TokenMask, id: number): boolean {
  return (((mask[id >>> 5] as number) >>> (id & 31)) & 1) === 1;
}

function allow(mask: TokenMask, id: number): void {
  mask[id >>> 5] = (mask[id >>> 5] as number) | (1 << (id & 31));
}

/**
 * Tokens that may follow a configuration: those whose bytes the automaton can read on from it. `endTokens` may follow where the text may
 * end, and nowhere else.
 * @throws AutomatonFull
 */
export function tokenMask(
  automaton: Automaton,
  vocabulary: Vocabulary,
  configuration: number,
  endTokens: readonly number[],
): TokenMask {
  const mask = new Uint32Array(Math.ceil(vocabulary.vocabSize / 32));
  const { byte, depth, after, token, same } = vocabulary;
  /** Configuration before the byte of each depth. */
  const path = new Int32Array(256);
  path[0] = configuration;
  for (let node = 0; node < byte.length; ) {
    const at = depth[node] as number;
    const next = automaton.step(path[at] as number, byte[node] as number);
    if (next === DEAD) {
      node = after[node] as number;
      continue;
    }
    path[at + 1] = next;
    const id = token[node] as number;
    if (id >= 0) {
      allow(mask, id);
      for (const other of same.get(id) ?? []) allow(mask, other);
    }
    node++;
  }
  if (automaton.literal(configuration)) {
    for (const id of vocabulary.added) if (staysLiteral(automaton, configuration, vocabulary.bytesOf(id))) allow(mask, id);
  }
  const ends = automaton.accepting(configuration);
  for (const id of endTokens) {
    if (id >= vocabulary.vocabSize) continue;
    if (ends) allow(mask, id);
    else mask[id >>> 5] = (mask[id >>> 5] as number) & ~(1 << (id & 31));
  }
  return mask;
}

/** The bytes can be read, and every one of them lies in literal text. */
function staysLiteral(automaton: Automaton, configuration: number, bytes: Uint8Array): boolean {
  let at = configuration;
  for (const byte of bytes) {
    if (!automaton.literal(at)) return false;
    at = automaton.step(at, byte);
  }
  return bytes.length > 0 && at !== DEAD;
}
