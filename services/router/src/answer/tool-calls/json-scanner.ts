/** The grammar of JSON (RFC 8259), character by character. */

/** What is expected next. */
export type JsonState =
  | 'value'
  | 'value_or_end'
  | 'key_or_end'
  | 'key'
  | 'colon'
  | 'comma_or_end'
  | 'string'
  | 'escape'
  | 'hex'
  | 'word'
  | 'minus'
  | 'zero'
  | 'digits'
  | 'point'
  | 'fraction'
  | 'exponent'
  | 'exponent_sign'
  | 'exponent_digits'
  | 'done';

const WORDS = ['true', 'false', 'null'] as const;
const NUMBER_ENDS: ReadonlySet<JsonState> = new Set(['zero', 'digits', 'fraction', 'exponent_digits']);

/**
 * Checks one JSON value as its text comes, and says where it ends. A value that is a number by itself has no end of its own: only
 * objects, lists, strings and words are found complete; `complete` says it of numbers too. Memory grows with the depth of the value only.
 */
export class JsonScanner {
  /** Open objects and lists. */
  readonly #open: ('{' | '[')[] = [];
  #state: JsonState = 'value';
  /** The string is a key. */
  #isKey = false;
  #hexLeft = 0;
  #word = '';

  get done(): boolean {
    return this.#state === 'done';
  }

  /** What has come is a whole value, should nothing more come. */
  get complete(): boolean {
    return this.#state === 'done' || (this.#open.length === 0 && NUMBER_ENDS.has(this.#state));
  }

  get state(): JsonState {
    return this.#state;
  }

  /** Objects and lists that are open. */
  get depth(): number {
    return this.#open.length;
  }

  /** Takes the next character. False: with it the text is no JSON, and this scanner is of no use any more. */
  push(char: string): boolean {
    switch (this.#state) {
      case 'value':
        return this.#value(char);
      case 'value_or_end':
        return char === ']' ? this.#close('[') : this.#value(char);
      case 'key_or_end':
        return char === '}' ? this.#close('{') : this.#key(char);
      case 'key':
        return this.#key(char);
      case 'colon':
        return char === ':' ? this.#go('value') : isSpace(char);
      case 'comma_or_end':
        return this.#commaOrEnd(char);
      case 'string':
      case 'escape':
      case 'hex':
        return this.#inString(char);
      case 'word':
        return this.#inWord(char);
      case 'done':
        return false;
      default:
        return this.#number(char);
    }
  }

  #go(state: JsonState): true {
    this.#state = state;
    return true;
  }

  #afterValue(): true {
    return this.#go(this.#open.length === 0 ? 'done' : 'comma_or_end');
  }

  #close(open: '{' | '['): boolean {
    if (this.#open.pop() !== open) return false;
    return this.#afterValue();
  }

  #value(char: string): boolean {
    if (isSpace(char)) return true;
    if (char === '{' || char === '[') {
      this.#open.push(char);
      return this.#go(char === '{' ? 'key_or_end' : 'value_or_end');
    }
    if (char === '"') {
      this.#isKey = false;
      return this.#go('string');
    }
    if (char === '-') return this.#go('minus');
    if (char === '0') return this.#go('zero');
    if (isDigit(char)) return this.#go('digits');
    const word = WORDS.find((candidate) => candidate.startsWith(char));
    if (word === undefined) return false;
    this.#word = word.slice(1);
    return this.#go('word');
  }

  #key(char: string): boolean {
    if (isSpace(char)) return true;
    this.#isKey = true;
    return char === '"' && this.#go('string');
  }

  #commaOrEnd(char: string): boolean {
    if (isSpace(char)) return true;
    if (char === '}') return this.#close('{');
    if (char === ']') return this.#close('[');
    return char === ',' && this.#go(this.#open.at(-1) === '{' ? 'key' : 'value');
  }

  #inString(char: string): boolean {
    switch (this.#state) {
      case 'escape':
        if (char !== 'u') return '"\\/bfnrt'.includes(char) && this.#go('string');
        this.#hexLeft = 4;
        return this.#go('hex');
      case 'hex':
        if (!/^[0-9A-Fa-f]$/.test(char)) return false;
        return --this.#hexLeft > 0 || this.#go('string');
      default:
        if (char === '\\') return this.#go('escape');
        if (char === '"') return this.#isKey ? this.#go('colon') : this.#afterValue();
        return char >= ' ';
    }
  }

  #inWord(char: string): boolean {
    if (!this.#word.startsWith(char)) return false;
    this.#word = this.#word.slice(1);
    return this.#word !== '' || this.#afterValue();
  }

  #number(char: string): boolean {
    const digit = isDigit(char);
    switch (this.#state) {
      case 'minus':
        return char === '0' ? this.#go('zero') : digit && this.#go('digits');
      case 'point':
        return digit && this.#go('fraction');
      case 'exponent':
        if (char === '+' || char === '-') return this.#go('exponent_sign');
        return digit && this.#go('exponent_digits');
      case 'exponent_sign':
        return digit && this.#go('exponent_digits');
      case 'zero':
      case 'digits':
        if (digit) return this.#state === 'digits';
        if (char === '.') return this.#go('point');
        break;
      default:
        if (digit) return true;
    }
    if ((char === 'e' || char === 'E') && this.#state !== 'exponent_digits') return this.#go('exponent');
    if (!NUMBER_ENDS.has(this.#state)) return false;
    this.#afterValue();
    return this.push(char);
  }
}

function isDigit(char: string): boolean {
  return char >= '0' && char <= '9';
}

function isSpace(char: string): boolean {
  return char === ' ' || char === '\n' || char === '\r' || char === '\t';
}
