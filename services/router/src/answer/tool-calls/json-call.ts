import type { TextInput } from '../text-input.ts';
import { type CallSink, MAX_HEADER, type ReadResult } from './call-sink.ts';
import { JsonScanner, type JsonState } from './json-scanner.ts';

/** Keys of the arguments: Hermes and Qwen say `arguments`, Llama `parameters`. */
const ARGUMENT_KEYS: ReadonlySet<string> = new Set(['arguments', 'parameters']);

/** What such an object may say before its name: anything else is some other JSON. */
const CALL_KEYS: ReadonlySet<string> = new Set(['name', ...ARGUMENT_KEYS, 'type', 'id']);

/** Where in the object the reader is. */
type Place = 'between' | 'key' | 'container' | 'string' | 'scalar';

/**
 * Reads a call that is one JSON object, `{"name": "...", "arguments": {...}}`, as its text comes: the arguments are passed on at
 * once when the name stands before them, as models write it. Arguments inside a string are taken out of it.
 */
export class JsonCall {
  readonly #scanner = new JsonScanner();
  readonly #sink: CallSink;
  #place: Place = 'between';
  #key = '';
  /** Text of the key or the value that is being read, where it is kept. */
  #held: string[] = [];
  #opened = false;
  /** Arguments that came before the name. */
  #early: string[] = [];
  #begun = false;
  #argumentsComplete = false;

  constructor(sink: CallSink) {
    this.#sink = sink;
  }

  /** The name is known: whatever comes now, it is a call. */
  get begun(): boolean {
    return this.#begun;
  }

  /** The arguments are whole; what is wrong behind them does not matter. */
  get argumentsComplete(): boolean {
    return this.#argumentsComplete;
  }

  /**
   * Reads on. `failed` means: with the next character the text is no such object. When a call has begun by then, the caller decides
   * what becomes of the rest.
   */
  read(input: TextInput): ReadResult {
    if (!this.#opened) {
      input.skipSpace();
      if (input.rest === '') return 'more';
      if (!input.rest.startsWith('{')) return 'failed';
    }
    const text = input.rest;
    let at = 0;
    /** Where the text begins that was not passed on yet. */
    let from = 0;
    for (; at < text.length; at++) {
      const char = text.charAt(at);
      const wasInside = this.#place === 'container';
      const before = this.#scanner.state;
      const isJson = this.#scanner.push(char);
      if (isJson && wasInside && this.#scanner.depth > 1) continue;
      const end = isJson && wasInside ? at + 1 : at;
      if (wasInside) this.#pass(text.slice(from, end));
      from = end;
      if (!isJson || !(wasInside ? this.#endValue() : this.#step(char, before))) {
        input.take(at);
        return 'failed';
      }
      if (!this.#scanner.done) continue;
      input.take(at + 1);
      return this.#complete() ? 'done' : 'failed';
    }
    if (this.#place === 'container') this.#pass(text.slice(from));
    input.take(text.length);
    return 'more';
  }

  get #isArguments(): boolean {
    return ARGUMENT_KEYS.has(this.#key);
  }

  /** A character outside of the objects and lists that are values. False: it is no call. */
  #step(char: string, before: JsonState): boolean {
    const { state } = this.#scanner;
    switch (this.#place) {
      case 'between':
        if (!this.#opened) {
          this.#opened = true;
          return true;
        }
        if (before === 'key' || before === 'key_or_end') return state !== 'string' || this.#hold('key', char);
        if (before !== 'value' || state === 'value') return true;
        return this.#hold(char === '{' || char === '[' ? 'container' : char === '"' ? 'string' : 'scalar', char);
      case 'key':
        if (!this.#keep(char)) return false;
        if (state !== 'colon') return true;
        this.#key = JSON.parse(this.#held.join('')) as string;
        this.#place = 'between';
        return this.#begun || CALL_KEYS.has(this.#key);
      case 'string':
        return this.#keep(char) && (state !== 'comma_or_end' || this.#endValue());
      case 'scalar':
        // A number ends with the character after it.
        return char === ',' || char === '}' || isSpace(char) ? this.#endValue() : this.#keep(char);
      case 'container':
        return true;
    }
  }

  /** Text inside an object or list that is a value. */
  #pass(text: string): void {
    if (this.#isArguments) this.#argumentText(text);
  }

  #hold(place: Place, char: string): true {
    this.#place = place;
    this.#held = [char];
    return true;
  }

  /** False: too long for what it is. Values that nobody asks for are not kept. */
  #keep(char: string): boolean {
    if (this.#place !== 'key' && this.#isArguments) this.#held.push(char);
    else if (this.#place === 'key' || this.#key === 'name') return this.#held.push(char) <= MAX_HEADER;
    return true;
  }

  /** A value is complete. False: the call has no such name. */
  #endValue(): boolean {
    const place = this.#place;
    this.#place = 'between';
    if (this.#isArguments) this.#endArguments(place);
    else if (this.#key === 'name' && !this.#begun)
      return place === 'string' && this.#begin(JSON.parse(this.#held.join('')) as string);
    return true;
  }

  #begin(name: string): boolean {
    if (!this.#sink.tools.has(name)) return false;
    this.#begun = true;
    this.#sink.begin(name);
    for (const text of this.#early) this.#sink.arguments(text);
    this.#early = [];
    return true;
  }

  #endArguments(place: Place): void {
    if (place === 'string') this.#argumentText(unquoted(this.#held.join('')));
    if (place === 'scalar') this.#argumentText(this.#held.join('') === 'null' ? '{}' : this.#held.join(''));
    this.#held = [];
    this.#argumentsComplete = true;
  }

  #argumentText(text: string): void {
    if (text === '' || this.#argumentsComplete) return;
    if (this.#begun) this.#sink.arguments(text);
    else this.#early.push(text);
  }

  /** The object is closed. False: it has no name. */
  #complete(): boolean {
    if (!this.#begun) return false;
    if (!this.#argumentsComplete) this.#argumentText('{}');
    this.#argumentsComplete = true;
    return true;
  }
}

/** Some models write their arguments as a JSON text inside a string; a string that is none of it stays one. */
function unquoted(literal: string): string {
  const text = JSON.parse(literal) as string;
  try {
    const inner: unknown = JSON.parse(text);
    return typeof inner === 'object' && inner !== null ? text : literal;
  } catch {
    return literal;
  }
}

function isSpace(char: string): boolean {
  return char === ' ' || char === '\n' || char === '\r' || char === '\t';
}
