/**
 * `<tool_call>{"name": "...", "arguments": {...}}</tool_call>`, once for each call: Hermes 2 and 3, Qwen 2.5 and 3, QwQ (their chat
 * templates).
 */
import type { TextInput } from '../text-input.ts';
import type { CallFormat, CallReader, CallSink, ReadResult } from './call-sink.ts';
import { JsonCall } from './json-call.ts';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';

export const hermes: CallFormat = {
  begins: [OPEN],
  marks: [OPEN, CLOSE],
  endsReasoning: false,
  createReader: (sink) => new HermesReader(sink),
};

class HermesReader implements CallReader {
  readonly #sink: CallSink;
  readonly #call: JsonCall;
  /** `broken`: the arguments turned out to be no JSON. `tail`: behind them. */
  #phase: 'object' | 'broken' | 'tail' = 'object';
  #tail = '';

  constructor(sink: CallSink) {
    this.#sink = sink;
    this.#call = new JsonCall(sink);
  }

  read(input: TextInput): ReadResult {
    if (this.#phase === 'object') {
      const result = this.#call.read(input);
      if (result === 'more' && !input.ended) return 'more';
      if (!this.#call.begun) return 'failed';
      this.#phase = this.#call.argumentsComplete ? 'tail' : 'broken';
    }
    return this.#phase === 'tail' ? this.#readTail(input) : this.#readBroken(input);
  }

  #readBroken(input: TextInput): ReadResult {
    const { text, marker } = input.takeUntil([CLOSE]);
    this.#sink.arguments(text);
    if (marker === undefined && !input.ended) return 'more';
    this.#sink.finish(false);
    return 'done';
  }

  /** Models forget the last brace, or write one too many: before the closing mark that means nothing. Without one it is text. */
  #readTail(input: TextInput): ReadResult {
    const { text, marker } = input.takeUntil([CLOSE, OPEN], true);
    this.#tail += text;
    if (marker === undefined && !input.ended) return 'more';
    if (marker === CLOSE) input.take(CLOSE.length);
    this.#sink.finish(true);
    if (marker !== CLOSE && !/^[\s}]*$/.test(this.#tail)) this.#sink.content(this.#tail);
    return 'done';
  }
}
