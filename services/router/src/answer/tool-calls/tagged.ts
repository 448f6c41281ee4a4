/** Calls in tags, a tag for each argument: what the formats of DeepSeek V3.2 and Qwen 3 Coder have in common. */
import type { TextInput } from '../text-input.ts';
import { type CallFormat, type CallReader, type CallSink, MAX_HEADER, type ReadResult } from './call-sink.ts';
import { JsonScanner } from './json-scanner.ts';

export interface TagMarks {
  /** Begins calls. */
  readonly begins: readonly string[];
  /** Ends what `begins` began. */
  readonly end: string;
  /** Begins the opening tag of a call; the tag goes on to `>`. It may be one of `begins`. */
  readonly call: string;
  readonly callEnd: string;
  /** Begins the opening tag of an argument. */
  readonly parameter: string;
  /** End an argument's value; one may be another with something before it. */
  readonly parameterEnds: readonly string[];
  /** Further tokens that are part of a mark. */
  readonly others?: readonly string[];
  readonly endsReasoning: boolean;
  /** One character, taken off the beginning of values. */
  readonly valueBegin?: string;
  /** The tool's name in its opening tag. */
  toolName(tag: string): string;
  /** Name of an argument, and whether its value is JSON rather than the text of a string. */
  parameterOf(tag: string, isJson: (parameter: string) => boolean): { readonly name: string; readonly isJson: boolean };
}

/** A format whose calls are tags. Clients get a JSON object: it is written as the values come. */
export function tagged(marks: TagMarks): CallFormat {
  const { begins, end, call, callEnd, parameter, parameterEnds, others = [] } = marks;
  return {
    begins,
    marks: [...begins, end, call, callEnd, parameter, ...parameterEnds, ...others],
    endsReasoning: marks.endsReasoning,
    createReader: (sink, begin) => new TagReader(sink, marks, begin),
  };
}

/** `foreign`: a call that is none of the request's tools, which is content. */
type Phase = 'between' | 'call' | 'parameters' | 'parameter' | 'value' | 'foreign';

class TagReader implements CallReader {
  readonly #sink: CallSink;
  readonly #marks: TagMarks;
  #phase: Phase;
  /** The rest of an opening tag. */
  #tag = '';
  #tool = '';
  /** A call was begun, or given as content. */
  #any = false;
  #begun = false;
  #parameters = 0;
  #value: TextValue | JsonValue | undefined;
  #valueStarts = false;
  #valid = true;

  constructor(sink: CallSink, marks: TagMarks, begin: string) {
    this.#sink = sink;
    this.#marks = marks;
    this.#phase = begin === marks.call ? 'call' : 'between';
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
      case 'call':
        return this.#openTag(input, () => this.#beginCall(input));
      case 'parameters':
        return this.#betweenParameters(input);
      case 'parameter':
        return this.#openTag(input, () => this.#beginParameter());
      case 'value':
        return this.#readValue(input);
      case 'foreign':
        return this.#readForeign(input);
    }
  }

  #between(input: TextInput): ReadResult | 'again' {
    const { call, end } = this.#marks;
    const space = input.skipSpace();
    // Until there is a call, all is text.
    if (this.#any && !this.#begun) this.#sink.content(space);
    const mark = input.startsWith([call, end]);
    if (mark === undefined) return 'more';
    if (mark === false) return this.#any ? 'done' : 'failed';
    if (mark === call && this.#any) input.record('');
    input.take(mark.length);
    return mark === end ? this.#endSection() : this.#go('call');
  }

  /** A section without calls is text, and so is its end. */
  #endSection(): ReadResult {
    if (!this.#any) return 'failed';
    if (!this.#begun) this.#sink.content(this.#marks.end);
    return 'done';
  }

  #go(phase: Phase): 'again' {
    this.#phase = phase;
    this.#tag = '';
    return 'again';
  }

  /** Reads to the end of an opening tag, which `then` looks at. */
  #openTag(input: TextInput, then: () => ReadResult | 'again'): ReadResult | 'again' {
    const { text, marker } = input.takeUntil(['>', this.#marks.end], true);
    this.#tag += text;
    const tooLong = this.#tag.length > MAX_HEADER;
    if (marker === undefined && !tooLong && !input.ended) return 'more';
    if (marker === '>' && !tooLong) {
      input.take(1);
      return then();
    }
    return this.#phase === 'call' ? this.#giveUp(input) : this.#endCall(false);
  }

  #giveUp(input: TextInput): 'again' {
    this.#any = true;
    this.#sink.content(input.recorded());
    return this.#go('foreign');
  }

  #beginCall(input: TextInput): 'again' {
    this.#tool = this.#marks.toolName(this.#tag);
    if (!this.#sink.tools.has(this.#tool)) return this.#giveUp(input);
    this.#any = true;
    this.#begun = true;
    this.#parameters = 0;
    this.#valid = true;
    this.#sink.begin(this.#tool);
    return this.#go('parameters');
  }

  #betweenParameters(input: TextInput): ReadResult | 'again' {
    const { parameter, callEnd, end } = this.#marks;
    input.skipSpace();
    const mark = input.startsWith([parameter, callEnd, end]);
    if (mark === undefined) return 'more';
    if (mark === parameter) {
      input.take(parameter.length);
      return this.#go('parameter');
    }
    if (mark === callEnd) input.take(callEnd.length);
    return this.#endCall(mark === callEnd);
  }

  #endCall(closed: boolean): ReadResult | 'again' {
    if (closed) this.#sink.arguments(this.#parameters === 0 ? '{}' : '}');
    this.#sink.finish(closed && this.#valid);
    return this.#sink.enough ? 'done' : this.#go('between');
  }

  #beginParameter(): 'again' {
    const { name, isJson } = this.#marks.parameterOf(this.#tag, (parameter) => this.#sink.isJson(this.#tool, parameter));
    this.#sink.arguments(`${this.#parameters++ === 0 ? '{' : ', '}${JSON.stringify(name)}: `);
    const emit = (text: string): void => this.#sink.arguments(text);
    this.#valueStarts = true;
    this.#value = isJson ? new JsonValue(emit) : new TextValue(emit);
    return this.#go('value');
  }

  #readValue(input: TextInput): ReadResult | 'again' {
    const { valueBegin = '', parameterEnds, end } = this.#marks;
    const value = this.#value;
    if (value === undefined) return 'done';
    if (this.#valueStarts) {
      const empty = input.startsWith(parameterEnds);
      if (empty === undefined) return 'more';
      if (empty === false && input.rest.startsWith(valueBegin)) input.take(valueBegin.length);
      this.#valueStarts = false;
    }
    const { text, marker } = input.takeUntil([...parameterEnds, end], true);
    value.push(text);
    if (marker === undefined && !input.ended) return 'more';
    if (marker === undefined || marker === end) return this.#endCall(false);
    input.take(marker.length);
    if (!value.end()) this.#valid = false;
    return this.#go('parameters');
  }

  #readForeign(input: TextInput): ReadResult | 'again' {
    const { callEnd, end } = this.#marks;
    const { text, marker } = input.takeUntil([callEnd, end], true);
    const closed = marker === callEnd ? input.take(callEnd.length) : '';
    this.#sink.content(text + closed);
    if (marker === undefined && !input.ended) return 'more';
    return this.#go('between');
  }
}

/** A value that is text: it becomes a JSON string as it comes. */
class TextValue {
  readonly #emit: (text: string) => void;
  #begun = false;

  constructor(emit: (text: string) => void) {
    this.#emit = emit;
  }

  push(text: string): void {
    if (text === '') return;
    this.#emit(`${this.#begun ? '' : '"'}${JSON.stringify(text).slice(1, -1)}`);
    this.#begun = true;
  }

  /** Whether the value is JSON now. */
  end(): boolean {
    this.#emit(this.#begun ? '"' : '""');
    return true;
  }
}

/** Words for which models write Python's. */
const PYTHON: Readonly<Record<string, string>> = { True: 'true', False: 'false', None: 'null' };

/** A value that should be JSON: objects and lists are passed on as they come, anything else when it is whole. */
class JsonValue {
  readonly #emit: (text: string) => void;
  readonly #scanner = new JsonScanner();
  #valid = true;
  #text = '';
  #isContainer: boolean | undefined;

  constructor(emit: (text: string) => void) {
    this.#emit = emit;
  }

  push(text: string): void {
    this.#text += text;
    const start = this.#text.trimStart().charAt(0);
    if (this.#isContainer === undefined && start !== '') this.#isContainer = start === '{' || start === '[';
    if (this.#isContainer !== true) return;
    for (const char of this.#text) {
      this.#valid &&= this.#scanner.push(char) || (this.#scanner.done && char.trim() === '');
    }
    this.#emit(this.#text);
    this.#text = '';
  }

  /** Whether the value is JSON now. What is none of it by itself becomes a string. */
  end(): boolean {
    if (this.#isContainer === true) return this.#valid && this.#scanner.complete;
    const text = this.#text.trim();
    const value = PYTHON[text] ?? text;
    this.#emit(isJson(value) ? value : JSON.stringify(this.#text));
    return true;
  }
}

function isJson(text: string): boolean {
  const scanner = new JsonScanner();
  return Array.from(text).every((char) => scanner.push(char)) && scanner.complete;
}
