/**
 * `[NAME(key=value, ...), NAME(...)]` as the whole answer, values in Python's notation: Llama 3.2 (Meta's prompt format of Llama 3.2,
 * "zero shot function calling"). Clients get JSON.
 */
import type { TextInput } from '../text-input.ts';
import { type CallFormat, type CallReader, type CallSink, MAX_HEADER, type ReadResult } from './call-sink.ts';
import { PythonValue } from './python-value.ts';

export const pythonic: CallFormat = {
  begins: ['<|python_tag|>'],
  bareBegins: ['['],
  marks: ['<|python_tag|>'],
  endsReasoning: false,
  createReader: (sink) => new PythonicReader(sink),
};

/** `name`: of a tool, up to its bracket. `key`: of an argument, up to its sign of equality. `after`: behind a call. */
type Phase = 'list' | 'name' | 'key' | 'value' | 'after';

class PythonicReader implements CallReader {
  readonly #sink: CallSink;
  #phase: Phase = 'list';
  /** The name or key so far. */
  #held = '';
  #tool = '';
  #any = false;
  /** The call that is being read has been begun: there is an argument, or its end. */
  #open = false;
  #arguments = 0;
  #valid = true;
  #value = new PythonValue();

  constructor(sink: CallSink) {
    this.#sink = sink;
  }

  read(input: TextInput): ReadResult {
    while (input.rest !== '') {
      const result = this.#step(input);
      if (result !== 'again') return result;
    }
    if (!input.ended) return 'more';
    if (this.#open) this.#finish(false);
    return this.#any ? 'done' : 'failed';
  }

  #step(input: TextInput): ReadResult | 'again' {
    switch (this.#phase) {
      case 'list':
        input.skipSpace();
        return input.rest === '' ? 'again' : this.#opening(input);
      case 'name':
      case 'key':
        return this.#readWord(input);
      case 'value':
        return this.#readValue(input);
      case 'after':
        return this.#readAfter(input);
    }
  }

  #opening(input: TextInput): ReadResult | 'again' {
    if (!input.rest.startsWith('[')) return 'failed';
    input.take(1);
    return this.#go('name');
  }

  #go(phase: Phase): 'again' {
    this.#phase = phase;
    this.#held = '';
    return 'again';
  }

  #readWord(input: TextInput): ReadResult | 'again' {
    const char = input.rest.charAt(0);
    const ends = this.#phase === 'name' ? '(' : '=';
    if (this.#phase === 'key' && char === ')' && this.#held.trim() === '') {
      input.take(1);
      return this.#endCall();
    }
    if (char === ends) return this.#endWord(input);
    if (!/[\w.\s-]/.test(char) || this.#held.length > MAX_HEADER) return this.#fail(input);
    this.#held += input.take(1);
    return 'again';
  }

  #endWord(input: TextInput): ReadResult | 'again' {
    const word = this.#held.trim();
    if (this.#phase === 'name') {
      if (!this.#sink.tools.has(word)) return this.#fail(input);
      this.#tool = word;
      this.#arguments = 0;
      this.#valid = true;
      input.take(1);
      return this.#go('key');
    }
    if (!/^[A-Za-z_]\w*$/.test(word)) return this.#fail(input);
    input.take(1);
    this.#begin();
    this.#sink.arguments(`${this.#arguments++ === 0 ? '{' : ', '}${JSON.stringify(word)}: `);
    this.#value = new PythonValue();
    return this.#go('value');
  }

  #begin(): void {
    if (this.#open) return;
    this.#open = true;
    this.#any = true;
    this.#sink.begin(this.#tool);
  }

  /** Characters one by one: each means something else by what came before. */
  #readValue(input: TextInput): 'again' | ReadResult {
    const text = input.rest;
    let json = '';
    let read = 0;
    for (const char of text) {
      if (!this.#value.inside && (char === ',' || char === ')')) {
        const { text: last, valid } = this.#value.end();
        this.#sink.arguments(json + last);
        this.#valid &&= valid;
        input.take(read + 1);
        return char === ',' ? this.#go('key') : this.#endCall();
      }
      json += this.#value.push(char);
      read += char.length;
    }
    this.#sink.arguments(json);
    input.take(read);
    return 'again';
  }

  #endCall(): ReadResult | 'again' {
    this.#begin();
    this.#sink.arguments(this.#arguments === 0 ? '{}' : '}');
    this.#finish(this.#valid);
    return this.#sink.enough ? 'done' : this.#go('after');
  }

  #finish(valid: boolean): void {
    this.#open = false;
    this.#sink.finish(valid);
  }

  /** Behind a call: another one, or the end of the list. Anything else is text. */
  #readAfter(input: TextInput): ReadResult | 'again' {
    input.skipSpace();
    const char = input.rest.charAt(0);
    if (char === '') return 'again';
    if (char === ',') {
      input.take(1);
      input.record(',');
      return this.#go('name');
    }
    if (char === ']') input.take(1);
    return 'done';
  }

  /** No call: what was read of it is content. Arguments that were begun end here, broken. */
  #fail(input: TextInput): ReadResult {
    if (this.#open) {
      this.#finish(false);
      return 'done';
    }
    if (!this.#any) return 'failed';
    this.#sink.content(input.recorded());
    return 'done';
  }
}
