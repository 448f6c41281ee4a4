import { refuse } from '../grammar-error.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';

/** Adds a fragment that begins at a state; gives the state at which it ends. */
export type Piece = (machine: Machine, from: number) => number;

interface Rule {
  start: number;
  end: number;
}

interface Call {
  rule: number;
  to: number;
}

/**
 * A recursive automaton over bytes: rules are nondeterministic automata whose edges read a byte, nothing, or what another rule reads.
 * Each rule has one start and one end of its own; states belong to one rule.
 */
export class Machine {
  /** Per state: triples (lowest byte, highest byte, next state). */
  readonly bytes: number[][] = [];
  /** Per state: states reached without reading. */
  readonly empty: number[][] = [];
  readonly calls: Call[][] = [];
  /** Per state: it stands for others that read the same as far as a token reaches; itself otherwise. */
  readonly alias: number[] = [];
  /** Per state: tokens beside the vocabulary may be used here (literal text around a document). */
  readonly literal: boolean[] = [];
  readonly rules: Rule[] = [];
  readonly #shared = new Map<string, number>();

  /** @throws GrammarError when the automaton gets too large */
  state(): number {
    const id = this.bytes.length;
    if (id >= GRAMMAR_LIMITS.states) {
      refuse(
        `it is too large: its automaton has more than ${GRAMMAR_LIMITS.states} states. Long repetitions (maxItems, maxLength, {n,m}) count each of them`,
      );
    }
    this.bytes.push([]);
    this.empty.push([]);
    this.calls.push([]);
    this.alias.push(id);
    this.literal.push(false);
    return id;
  }

  byte(from: number, low: number, high: number, to: number): void {
    this.bytes[from]?.push(low, high, to);
  }

  skip(from: number, to: number): void {
    this.empty[from]?.push(to);
  }

  call(from: number, rule: number, to: number): void {
    this.calls[from]?.push({ rule, to });
  }

  /** A rule to be built with `build`: it may be called before, even from within itself. */
  declare(): number {
    this.rules.push({ start: this.state(), end: this.state() });
    return this.rules.length - 1;
  }

  build(rule: number, piece: Piece): number {
    const { start, end } = this.rule(rule);
    this.skip(piece(this, start), end);
    return rule;
  }

  /** The rule of this name, built when it is first asked for. */
  shared(name: string, piece: Piece): number {
    const known = this.#shared.get(name);
    if (known !== undefined) return known;
    const rule = this.declare();
    this.#shared.set(name, rule);
    return this.build(rule, piece);
  }

  rule(rule: number): Rule {
    return this.rules[rule] as Rule;
  }
}
