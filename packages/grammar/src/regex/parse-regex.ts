import { refuse, unsupported } from '../grammar-error.ts';
import { ANY, type CharSet, DIGITS, DOT, negated, SPACE, unicodeProperty, united, WORD } from './char-set.ts';

/** A regular expression. Groups don't matter: only what is matched as a whole does. */
export type Regex =
  | { kind: 'chars'; set: CharSet }
  | { kind: 'sequence'; parts: Regex[] }
  | { kind: 'either'; branches: Regex[] }
  | { kind: 'repeat'; part: Regex; min: number; max: number }
  | { kind: 'start' }
  | { kind: 'end' };

export interface ParsedRegex {
  body: Regex;
  /** Conditions at the very beginning, `(?=...)` and `(?!...)`. */
  lookaheads: { negative: boolean; body: Regex }[];
}

/** Nesting of groups. */
const MAX_DEPTH = 100;

/**
 * Reads an expression of ECMAScript's syntax.
 * @throws GrammarError for a syntax error, and for what no finite automaton can do or is not supported here: back-references, word
 *   boundaries, look-behind, look-ahead elsewhere than at the beginning
 */
export function parseRegex(pattern: string): ParsedRegex {
  return new RegexParser(pattern).parse();
}

class RegexParser {
  readonly #pattern: string;
  readonly #characters: string[];
  readonly #lookaheads: ParsedRegex['lookaheads'] = [];
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
    this.#characters = Array.from(pattern);
  }

  parse(): ParsedRegex {
    const anchored = this.#take('^');
    for (;;) {
      if (this.#take('(?=')) this.#lookaheads.push({ negative: false, body: this.#group() });
      else if (this.#take('(?!')) this.#lookaheads.push({ negative: true, body: this.#group() });
      else break;
    }
    const rest = this.#either();
    if (this.#at < this.#characters.length) this.#fail(`there is a ")" too many`);
    if (this.#lookaheads.length > 0 && rest.kind === 'either') {
      unsupported(`${this.#named()}: a look-ahead before alternatives without a group around them is not supported`);
    }
    // An alternative after `^...|` is not anchored by it.
    if (!anchored) return { body: rest, lookaheads: this.#lookaheads };
    const start: Regex = { kind: 'start' };
    if (rest.kind !== 'either') return { body: { kind: 'sequence', parts: [start, rest] }, lookaheads: this.#lookaheads };
    const [first, ...others] = rest.branches as [Regex, ...Regex[]];
    return { body: { kind: 'either', branches: [{ kind: 'sequence', parts: [start, first] }, ...others] }, lookaheads: [] };
  }

  #either(): Regex {
    const branches = [this.#sequence()];
    while (this.#take('|')) branches.push(this.#sequence());
    return branches.length === 1 ? (branches[0] as Regex) : { kind: 'either', branches };
  }

  #sequence(): Regex {
    const parts: Regex[] = [];
    for (;;) {
      const next = this.#peek();
      if (next === undefined || next === '|' || next === ')') return { kind: 'sequence', parts };
      parts.push(this.#quantified(this.#atom()));
    }
  }

  #quantified(part: Regex): Regex {
    const bounds = this.#quantifier();
    if (bounds === undefined) return part;
    if (part.kind === 'start' || part.kind === 'end') this.#fail('there is nothing to repeat');
    this.#take('?');
    const next = this.#peek();
    if (next === '*' || next === '+') this.#fail('there is nothing to repeat');
    return { kind: 'repeat', part, ...bounds };
  }

  #quantifier(): { min: number; max: number } | undefined {
    if (this.#take('*')) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take('+')) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take('?')) return { min: 0, max: 1 };
    if (this.#peek() !== '{') return undefined;
    const rest = this.#characters.slice(this.#at, this.#at + 30).join('');
    const found = /^\{(\d{1,9})(,(\d{0,9}))?\}/.exec(rest);
    if (found === null) return undefined;
    this.#at += found[0].length;
    const min = Number(found[1]);
    const max = found[2] === undefined ? min : found[3] === '' ? Number.POSITIVE_INFINITY : Number(found[3]);
    if (max < min) this.#fail(`in ${found[0]} the numbers are out of order`);
    return { min, max };
  }

  #atom(): Regex {
    const character = this.#characters[this.#at++] as string;
    switch (character) {
      case '^':
        return { kind: 'start' };
      case '$':
        return { kind: 'end' };
      case '.':
        return { kind: 'chars', set: DOT };
      case '[':
        return { kind: 'chars', set: this.#class() };
      case '(':
        return this.#openGroup();
      case '\\':
        return this.#escaped();
      case '*':
      case '+':
      case '?':
        return this.#fail('there is nothing to repeat');
      default:
        return single(character);
    }
  }

  #openGroup(): Regex {
    if (!this.#take('?')) return this.#group();
    if (this.#take(':')) return this.#group();
    if (this.#take('<=') || this.#take('<!')) return this.#unsupported('look-behind');
    if (this.#take('=') || this.#take('!')) return this.#unsupported('look-ahead elsewhere than at the beginning');
    if (!this.#take('<')) return this.#fail('a group begins with "(?" and none of ":", "=", "!", "<"');
    while (this.#peek() !== undefined && !this.#take('>')) this.#at++;
    return this.#group();
  }

  #group(): Regex {
    if (++this.#depth > MAX_DEPTH) this.#fail(`groups are nested deeper than ${MAX_DEPTH}`);
    const body = this.#either();
    if (!this.#take(')')) this.#fail('a ")" is missing');
    this.#depth--;
    return body;
  }

  #escaped(): Regex {
    const next = this.#peek();
    if (next === 'b' || next === 'B') return this.#unsupported(`the word boundary \\${next}`);
    if (next === 'k' || (next !== undefined && /[1-9]/.test(next))) return this.#unsupported(`the back-reference \\${next}`);
    const set = this.#escape();
    return { kind: 'chars', set };
  }

  /** After the backslash. */
  #escape(): CharSet {
    const character = this.#characters[this.#at++];
    switch (character) {
      case undefined:
        return this.#fail('it ends with a "\\"');
      case 'd':
        return DIGITS;
      case 'D':
        return negated(DIGITS);
      case 'w':
        return WORD;
      case 'W':
        return negated(WORD);
      case 's':
        return SPACE;
      case 'S':
        return negated(SPACE);
      case 'p':
      case 'P':
        return this.#property(character === 'P');
      default:
        return point(this.#escapedPoint(character));
    }
  }

  #escapedPoint(character: string): number {
    const control = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 }[character];
    if (control !== undefined) return control;
    if (character === 'x') return this.#hex(2);
    if (character === 'c') {
      const letter = this.#characters[this.#at++] ?? '';
      if (!/^[A-Za-z]$/.test(letter)) this.#fail('after \\c there is no letter');
      return (letter.codePointAt(0) as number) % 32;
    }
    if (character !== 'u') return character.codePointAt(0) as number;
    if (this.#take('{')) {
      const end = this.#characters.indexOf('}', this.#at);
      const digits = this.#characters.slice(this.#at, Math.max(end, this.#at)).join('');
      if (!/^[0-9A-Fa-f]{1,6}$/.test(digits) || Number.parseInt(digits, 16) > 0x10ffff) this.#fail('\\u{...} is no code point');
      this.#at = end + 1;
      return Number.parseInt(digits, 16);
    }
    const unit = this.#hex(4);
    if (unit < 0xd800 || unit > 0xdbff || !this.#take('\\u')) return unit;
    return String.fromCharCode(unit, this.#hex(4)).codePointAt(0) as number;
  }

  #hex(digits: number): number {
    const text = this.#characters.slice(this.#at, this.#at + digits).join('');
    if (text.length !== digits || !/^[0-9A-Fa-f]+$/.test(text)) this.#fail(`an escape needs ${digits} hexadecimal digits`);
    this.#at += digits;
    return Number.parseInt(text, 16);
  }

  #property(negative: boolean): CharSet {
    const end = this.#characters.indexOf('}', this.#at);
    if (!this.#take('{') || end < 0) return this.#fail('\\p needs a property in braces');
    const name = this.#characters.slice(this.#at, end).join('');
    this.#at = end + 1;
    const set = /^[A-Za-z_=0-9]{1,60}$/.test(name) ? unicodeProperty(name) : undefined;
    if (set === undefined) return this.#fail(`there is no Unicode property ${JSON.stringify(name.slice(0, 60))}`);
    return negative ? negated(set) : set;
  }

  /** After the bracket. */
  #class(): CharSet {
    const negative = this.#take('^');
    const sets: CharSet[] = [];
    while (!this.#take(']')) {
      const low = this.#classAtom();
      const first = low[0];
      const range =
        this.#peek() === '-' && this.#characters[this.#at + 1] !== ']' && this.#characters[this.#at + 1] !== undefined;
      if (!range || !isPoint(low) || first === undefined) {
        sets.push(low);
        continue;
      }
      this.#at++;
      const high = this.#classAtom();
      if (!isPoint(high)) sets.push(low, point(0x2d), high);
      else if ((high[0]?.[0] ?? 0) < first[0]) this.#fail('in a class a range is out of order');
      else sets.push([[first[0], high[0]?.[0] ?? 0]]);
    }
    const set = united(...sets);
    return negative ? negated(set) : set;
  }

  #classAtom(): CharSet {
    const character = this.#characters[this.#at++];
    if (character === undefined) return this.#fail('a "]" is missing');
    if (character !== '\\') return point(character.codePointAt(0) as number);
    // Inside a class it is the backspace.
    return this.#take('b') ? point(8) : this.#escape();
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #take(text: string): boolean {
    for (let i = 0; i < text.length; i++) if (this.#characters[this.#at + i] !== text[i]) return false;
    this.#at += text.length;
    return true;
  }

  #named(): string {
    const shown = this.#pattern.length > 80 ? `${this.#pattern.slice(0, 80)}...` : this.#pattern;
    return `the pattern ${JSON.stringify(shown)}`;
  }

  #fail(why: string): never {
    return refuse(`${this.#named()} is no regular expression: ${why} (character ${this.#at})`);
  }

  #unsupported(what: string): never {
    return unsupported(`${this.#named()}: ${what} is not supported`);
  }
}

function single(character: string): Regex {
  return { kind: 'chars', set: point(character.codePointAt(0) as number) };
}

function point(value: number): CharSet {
  return [[value, value]];
}

function isPoint(set: CharSet): boolean {
  return set.length === 1 && set[0]?.[0] === set[0]?.[1];
}

export const ANYTHING: Regex = { kind: 'repeat', part: { kind: 'chars', set: ANY }, min: 0, max: Number.POSITIVE_INFINITY };
