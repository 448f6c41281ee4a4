import { JsonScanner } from './json-scanner.ts';

const WORDS: Readonly<Record<string, string>> = { True: 'true', False: 'false', None: 'null' };
/** Escapes of one character that JSON has too, or has in another form (Python's language reference, string literals). */
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\\n',
  t: '\\t',
  r: '\\r',
  b: '\\b',
  f: '\\f',
  '\\': '\\\\',
  '"': '\\"',
  "'": "'",
  '\n': '',
};

/** Writes a Python literal as JSON while it comes: strings, numbers, True, False, None, lists and dictionaries of them. */
export class PythonValue {
  readonly #scanner = new JsonScanner();
  #quote: string | undefined;
  #escaped = false;
  #word = '';
  #valid = true;

  /** A string, or objects and lists, are open: no character ends the value. */
  get inside(): boolean {
    return this.#quote !== undefined || this.#scanner.depth > 0;
  }

  /** JSON of one more character. */
  push(char: string): string {
    if (this.#quote !== undefined) return this.#checked(this.#inString(char, this.#quote));
    if (/[A-Za-z]/.test(char) && !this.#isExponent(char)) {
      this.#word += char;
      return '';
    }
    const before = this.#endWord();
    if (char !== '"' && char !== "'") return before + this.#checked(char);
    this.#quote = char;
    return before + this.#checked('"');
  }

  /** What is left, and whether the whole is JSON. */
  end(): { readonly text: string; readonly valid: boolean } {
    const text = this.#endWord();
    return { text, valid: this.#valid && this.#scanner.complete };
  }

  /** The letter in 1e3. */
  #isExponent(char: string): boolean {
    const { state } = this.#scanner;
    return (char === 'e' || char === 'E') && (state === 'zero' || state === 'digits' || state === 'fraction');
  }

  #endWord(): string {
    const word = this.#word;
    this.#word = '';
    return word === '' ? '' : this.#checked(WORDS[word] ?? word);
  }

  #inString(char: string, quote: string): string {
    if (this.#escaped) {
      this.#escaped = false;
      if (char === 'u') return '\\u';
      return ESCAPES[char] ?? `\\\\${JSON.stringify(char).slice(1, -1)}`;
    }
    if (char === '\\') {
      this.#escaped = true;
      return '';
    }
    if (char !== quote) return JSON.stringify(char).slice(1, -1);
    this.#quote = undefined;
    return '"';
  }

  /** Checks what is written; after the value only space may come. */
  #checked(json: string): string {
    for (const char of json) this.#valid &&= this.#scanner.push(char) || (this.#scanner.done && char.trim() === '');
    return json;
  }
}
