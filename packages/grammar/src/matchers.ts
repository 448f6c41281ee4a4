import { ServiceError } from '@causeway/errors';
import { compileConstraint, type CompiledConstraint } from './compile.ts';
import { type Constraint, constraintKey } from './constraint.ts';
import { GrammarError } from './grammar-error.ts';
import { GRAMMAR_LIMITS } from './limits.ts';
import { Automaton, AutomatonFull, DEAD } from './machine/automaton.ts';
import { type TokenMask, tokenMask } from './token-mask.ts';
import type { Vocabulary } from './vocabulary.ts';

/** Compiled constraints kept for requests to come. */
const KEPT_GRAMMARS = 8;
/** Masks kept per constraint: up to 20 KB each. */
const KEPT_MASKS = 512;

/** A compiled constraint, shared by the texts that are held to it. */
interface Grammar {
  compiled: CompiledConstraint;
  automaton: Automaton;
  /** Raised when the automaton is made anew: configurations of older ones mean nothing. */
  epoch: number;
  /** By the configuration's mask key. */
  masks: Map<string, TokenMask>;
}

/** A text that is held to a constraint. */
interface Matcher {
  grammar: Grammar;
  endTokens: readonly number[];
  tokens: number[];
  configuration: number;
  epoch: number;
}

export interface OpenMatcher {
  constraint: Constraint;
  /** Allowed where the text may end. */
  endTokens: readonly number[];
  /** The text so far. */
  tokens: readonly number[];
}

/** Texts by number, and the tokens that each may go on with. Computes as long as it takes: for a thread of its own. */
export class Matchers {
  readonly #vocabulary: Vocabulary;
  readonly #grammars = new Map<string, Grammar>();
  readonly #matchers = new Map<number, Matcher>();

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
  }

  /**
   * Takes a text in; gives the mask of its next token.
   * @throws GrammarError when the constraint can't be compiled, ServiceError when the vocabulary or the text so far doesn't do
   */
  open(id: number, { constraint, endTokens, tokens }: OpenMatcher): TokenMask {
    const { missing } = this.#vocabulary;
    if (missing.length > 0) {
      const characters = missing.slice(0, 20).map((byte) => String.fromCharCode(byte));
      throw new ServiceError(
        `this model's tokenizer has no tokens for the characters ${JSON.stringify(characters.join(''))}: it can't be held to a format`,
        { code: 'failed_precondition', reason: 'unsupported_format' },
      );
    }
    const grammar = this.#grammar(constraint);
    const matcher = { grammar, endTokens, tokens: [...tokens], configuration: DEAD, epoch: -1 };
    const mask = this.#mask(matcher);
    this.#matchers.set(id, matcher);
    return mask;
  }

  /** Goes on with a token; gives the mask of the next one. */
  accept(id: number, token: number): TokenMask {
    const matcher = this.#matchers.get(id);
    if (matcher === undefined) throw new ServiceError(`text ${id} is not open`, { code: 'internal', reason: 'internal' });
    matcher.tokens.push(token);
    if (matcher.epoch === matcher.grammar.epoch) {
      matcher.configuration = this.#retrying(matcher, () =>
        matcher.grammar.automaton.read(matcher.configuration, this.#vocabulary.bytesOf(token)),
      );
    }
    return this.#mask(matcher);
  }

  /** Tokens of a text. */
  length(id: number): number {
    return this.#matchers.get(id)?.tokens.length ?? 0;
  }

  close(id: number): void {
    this.#matchers.delete(id);
  }

  #mask(matcher: Matcher): TokenMask {
    const mask = this.#retrying(matcher, () => {
      const { automaton, masks } = matcher.grammar;
      automaton.allowWork(Number.POSITIVE_INFINITY);
      this.#catchUp(matcher);
      automaton.allowWork(GRAMMAR_LIMITS.maskWork);
      const key = `${automaton.maskKey(matcher.configuration)};${matcher.endTokens.join()}`;
      const known = masks.get(key);
      if (known !== undefined) return known;
      const made = tokenMask(automaton, this.#vocabulary, matcher.configuration, matcher.endTokens);
      if (masks.size >= KEPT_MASKS) masks.clear();
      masks.set(key, made);
      return made;
    });
    if (mask.some((word) => word !== 0)) return mask;
    throw new ServiceError('no token of the vocabulary goes on with what the constraint demands next', {
      code: 'failed_precondition',
      reason: 'unsupported_format',
    });
  }

  /** Reads the text from its beginning when the automaton is another one than the matcher knew. */
  #catchUp(matcher: Matcher): void {
    const { grammar, tokens } = matcher;
    if (matcher.epoch !== grammar.epoch) {
      matcher.configuration = tokens.reduce(
        (at, token) => grammar.automaton.read(at, this.#vocabulary.bytesOf(token)),
        grammar.automaton.start,
      );
      matcher.epoch = grammar.epoch;
    }
    if (matcher.configuration !== DEAD) return;
    throw new ServiceError(`the ${tokens.length} tokens so far are no beginning of what the constraint allows`, {
      code: 'internal',
      reason: 'internal',
    });
  }

  /** An automaton that has grown full is made anew, once. */
  #retrying<T>({ grammar }: Matcher, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof AutomatonFull)) throw error;
      grammar.automaton = new Automaton(grammar.compiled.machine, grammar.compiled.root);
      grammar.epoch++;
      grammar.masks.clear();
    }
    try {
      return work();
    } catch (error) {
      if (error instanceof AutomatonFull) throw new GrammarError('it is too complex: too many ways to read one token');
      throw error;
    }
  }

  #grammar(constraint: Constraint): Grammar {
    const key = constraintKey(constraint);
    const known = this.#grammars.get(key) ?? newGrammar(constraint);
    this.#grammars.delete(key);
    this.#grammars.set(key, known);
    for (const oldest of this.#grammars.keys()) {
      if (this.#grammars.size <= KEPT_GRAMMARS) break;
      this.#grammars.delete(oldest);
    }
    return known;
  }
}

function newGrammar(constraint: Constraint): Grammar {
  const compiled = compileConstraint(constraint);
  return { compiled, automaton: new Automaton(compiled.machine, compiled.root), epoch: 0, masks: new Map() };
}
