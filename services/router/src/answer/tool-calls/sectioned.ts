/** Calls in a section of their own, between marks that are tokens: what the formats of DeepSeek V3 and Kimi K2 have in common. */
import type { TextInput } from '../text-input.ts';
import { type CallFormat, type CallReader, type CallSink, MAX_HEADER, type ReadResult } from './call-sink.ts';
import { JsonScanner } from './json-scanner.ts';

export interface SectionMarks {
  /** Begins the section; some models know more than one spelling. */
  readonly begins: readonly string[];
  readonly ends: readonly string[];
  readonly callBegin: string;
  /** Stands between what names the tool and its arguments. */
  readonly argumentsBegin: string;
  readonly callEnd: string;
  /** Further tokens that stand in a call. */
  readonly others?: readonly string[];
  /** The tool's name in the text before the arguments, and the call's id where there is one. */
  named(header: string, tools: ReadonlySet<string>): { readonly name: string; readonly id?: string };
}

/** A format whose arguments are JSON between marks. */
export function sectioned(marks: SectionMarks): CallFormat {
  return {
    begins: marks.begins,
    marks: [...marks.begins, ...marks.ends, marks.callBegin, marks.argumentsBegin, marks.callEnd, ...(marks.others ?? [])],
    endsReasoning: true,
    createReader: (sink) => new SectionReader(sink, marks),
  };
}

/** `foreign`: a call that is none of the request's tools, which is content. */
type Phase = 'between' | 'header' | 'arguments' | 'foreign';

class SectionReader implements CallReader {
  readonly #sink: CallSink;
  readonly #marks: SectionMarks;
  #phase: Phase = 'between';
  #header = '';
  #scanner = new JsonScanner();
  #broken = false;
  #empty = true;
  #blockClosed = false;
  /** A call was begun, or given as content. */
  #any = false;
  #begun = false;

  constructor(sink: CallSink, marks: SectionMarks) {
    this.#sink = sink;
    this.#marks = marks;
  }

  read(input: TextInput): ReadResult {
    for (;;) {
      const result = this.#step(input);
      if (result !== 'again') return result;
    }
  }

  #step(input: TextInput): ReadResult | 'again' {
    switch (this.#phase) {
      case 'between':
        return this.#between(input);
      case 'header':
        return this.#readHeader(input);
      case 'arguments':
        return this.#readArguments(input);
      case 'foreign':
        return this.#readForeign(input);
    }
  }

  #between(input: TextInput): ReadResult | 'again' {
    const { callBegin, ends } = this.#marks;
    const space = input.skipSpace();
    // Until there is a call, all is text.
    if (this.#any && !this.#begun) this.#sink.content(space);
    const mark = input.startsWith([callBegin, ...ends]);
    if (mark === undefined) return 'more';
    if (mark === false) return this.#any ? 'done' : 'failed';
    // Of the first call the section's own mark is a part.
    if (mark === callBegin && this.#any) input.record('');
    input.take(mark.length);
    if (mark !== callBegin) return this.#endSection(mark);
    this.#header = '';
    this.#phase = 'header';
    return 'again';
  }

  /** A section without calls is text, and so is its end. */
  #endSection(mark: string): ReadResult {
    if (!this.#any) return 'failed';
    if (!this.#begun) this.#sink.content(mark);
    return 'done';
  }

  #readHeader(input: TextInput): ReadResult | 'again' {
    const { argumentsBegin, callEnd, ends } = this.#marks;
    const { text, marker } = input.takeUntil([argumentsBegin, callEnd, ...ends], true);
    this.#header += text;
    const tooLong = this.#header.length > MAX_HEADER;
    if (marker === undefined && !tooLong && !input.ended) return 'more';
    const { name, id } = this.#marks.named(this.#header, this.#sink.tools);
    this.#any = true;
    if (tooLong || marker !== argumentsBegin || !this.#sink.tools.has(name)) {
      this.#sink.content(input.recorded());
      this.#phase = 'foreign';
      return 'again';
    }
    input.take(argumentsBegin.length);
    this.#sink.begin(name, id);
    this.#begun = true;
    this.#scanner = new JsonScanner();
    this.#broken = false;
    this.#empty = true;
    this.#blockClosed = false;
    this.#phase = 'arguments';
    return 'again';
  }

  #readArguments(input: TextInput): ReadResult | 'again' {
    const { callEnd, ends } = this.#marks;
    const { text, marker } = input.takeUntil([callEnd, ...ends], true);
    this.#pass(text);
    if (marker === undefined && !input.ended) return 'more';
    if (marker === callEnd) input.take(callEnd.length);
    const closed = marker !== undefined;
    if (this.#empty && closed) this.#sink.arguments('{}');
    this.#sink.finish((this.#empty && closed) || (this.#scanner.done && !this.#broken));
    this.#phase = 'between';
    return this.#sink.enough ? 'done' : 'again';
  }

  /** Passes the JSON on, without the space around it; behind it nothing counts (DeepSeek V3 closes a code block there). */
  #pass(text: string): void {
    let from = 0;
    while (this.#empty && from < text.length && text.charAt(from).trim() === '') from++;
    // A block of code that is closed at once holds no arguments.
    this.#blockClosed ||= this.#empty && text.charAt(from) === '`';
    if (this.#blockClosed) return;
    let to = from;
    for (; to < text.length && !this.#broken && !this.#scanner.done; to++) {
      if (!this.#scanner.push(text.charAt(to))) this.#broken = true;
    }
    const passed = this.#broken ? text.slice(from) : text.slice(from, to);
    if (passed === '') return;
    this.#empty = false;
    this.#sink.arguments(passed);
  }

  #readForeign(input: TextInput): ReadResult | 'again' {
    const { callEnd, ends } = this.#marks;
    const { text, marker } = input.takeUntil([callEnd, ...ends], true);
    const closed = marker === callEnd ? input.take(callEnd.length) : '';
    this.#sink.content(text + closed);
    if (marker === undefined && !input.ended) return 'more';
    this.#phase = 'between';
    return 'again';
  }
}
