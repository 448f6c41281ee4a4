/**
 * `{"name": "...", "parameters": {...}}` as the whole answer, several separated by semicolons, with or without `<|python_tag|>`
 * before: Llama 3.1 to 3.3 (their chat templates; Meta's prompt format of Llama 3.1, "JSON based tool calling").
 */
import type { TextInput } from '../text-input.ts';
import type { CallFormat, CallReader, CallSink, ReadResult } from './call-sink.ts';
import { JsonCall } from './json-call.ts';

const TAG = '<|python_tag|>';

export const llama3: CallFormat = {
  begins: [TAG],
  bareBegins: ['{'],
  marks: [TAG],
  endsReasoning: false,
  createReader: (sink) => new Llama3Reader(sink),
};

class Llama3Reader implements CallReader {
  readonly #sink: CallSink;
  #call: JsonCall;
  #phase: 'object' | 'broken' | 'between' = 'object';
  /** Separators that were read after a call. */
  #between = '';

  constructor(sink: CallSink) {
    this.#sink = sink;
    this.#call = new JsonCall(sink);
  }

  read(input: TextInput): ReadResult {
    for (;;) {
      if (this.#phase === 'broken') return this.#readBroken(input);
      if (this.#phase === 'between') {
        const next = this.#readBetween(input);
        if (next !== undefined) return next;
        this.#call = new JsonCall(this.#sink);
        this.#phase = 'object';
      }
      const result = this.#call.read(input);
      if (result === 'more' && !input.ended) return 'more';
      if (!this.#call.begun) return 'failed';
      if (this.#call.argumentsComplete) {
        this.#sink.finish(true);
        if (this.#sink.enough) return 'done';
        this.#phase = 'between';
      } else this.#phase = 'broken';
    }
  }

  /** Nothing marks the end of a call: what no longer is JSON is all that remains. */
  #readBroken(input: TextInput): ReadResult {
    this.#sink.arguments(input.take(input.rest.length));
    if (!input.ended) return 'more';
    this.#sink.finish(false);
    return 'done';
  }

  /** Undefined: another call may begin. */
  #readBetween(input: TextInput): ReadResult | undefined {
    this.#between += input.skipSpace();
    if (input.rest.startsWith(';') && !this.#between.includes(';')) {
      this.#between += input.take(1);
      this.#between += input.skipSpace();
    }
    if (input.rest.startsWith('{')) {
      this.#between = '';
      input.record('');
      return undefined;
    }
    if (input.rest === '' && !input.ended) return 'more';
    // A brace too many means nothing.
    if (this.#between.trim() !== '') this.#sink.content(this.#between);
    return 'done';
  }
}
