/**
 * `<｜DSML｜function_calls>` with `<｜DSML｜invoke name="...">` and `<｜DSML｜parameter name="..." string="true|false">`: DeepSeek V3.2
 * (deepseek-ai/DeepSeek-V3.2, encoding). Strings stand there as they are, everything else as JSON; clients get a JSON object.
 */
import type { TextInput } from '../text-input.ts';
import { type CallFormat, type CallReader, type CallSink, MAX_HEADER, type ReadResult } from './call-sink.ts';
import { JsonScanner } from './json-scanner.ts';

const BEGIN = '<｜DSML｜function_calls>';
const END = '</｜DSML｜function_calls>';
const INVOKE = '<｜DSML｜invoke';
const INVOKE_END = '</｜DSML｜invoke>';
const PARAMETER = '<｜DSML｜parameter';
const PARAMETER_END = '</｜DSML｜parameter>';

export const deepseekV32: CallFormat = {
  begins: [BEGIN],
  marks: ['｜DSML｜', BEGIN, END, INVOKE, INVOKE_END, PARAMETER, PARAMETER_END],
  endsReasoning: true,
  createReader: (sink) => new DsmlReader(sink),
};

/** `foreign`: an invocation that is none of the request's tools, which is content. */
type Phase = 'between' | 'invoke' | 'parameters' | 'parameter' | 'value' | 'foreign';

class DsmlReader implements CallReader {
  readonly #sink: CallSink;
  #phase: Phase = 'between';
  /** The rest of an opening tag. */
  #tag = '';
  /** An invocation was begun, or given as content. */
  #any = false;
  #begun = false;
  #parameters = 0;
  /** The value is a string; else it is JSON, which `#scanner` checks. */
  #isString = false;
  #scanner = new JsonScanner();
  #valid = true;

  constructor(sink: CallSink) {
    this.#sink = sink;
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
      case 'invoke':
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
    const space = input.skipSpace();
    // Until there is a call, all is text.
    if (this.#any && !this.#begun) this.#sink.content(space);
    const mark = input.startsWith([INVOKE, END]);
    if (mark === undefined) return 'more';
    if (mark === false) return this.#any ? 'done' : 'failed';
    if (mark === INVOKE && this.#any) input.record('');
    input.take(mark.length);
    if (mark === END) return this.#endSection();
    return this.#go('invoke');
  }

  /** A section without calls is text, and so is its end. */
  #endSection(): ReadResult {
    if (!this.#any) return 'failed';
    if (!this.#begun) this.#sink.content(END);
    return 'done';
  }

  #go(phase: Phase): 'again' {
    this.#phase = phase;
    this.#tag = '';
    return 'again';
  }

  /** Reads to the end of an opening tag, which `then` looks at. */
  #openTag(input: TextInput, then: () => 'again'): ReadResult | 'again' {
    const { text, marker } = input.takeUntil(['>', END], true);
    this.#tag += text;
    const tooLong = this.#tag.length > MAX_HEADER;
    if (marker === undefined && !tooLong && !input.ended) return 'more';
    if (marker === '>' && !tooLong) {
      input.take(1);
      return then();
    }
    return this.#phase === 'invoke' ? this.#giveUp(input) : this.#endCall(false);
  }

  #giveUp(input: TextInput): 'again' {
    this.#any = true;
    this.#sink.content(input.recorded());
    return this.#go('foreign');
  }

  #beginCall(input: TextInput): 'again' {
    const name = attribute(this.#tag, 'name');
    if (name === undefined || !this.#sink.tools.has(name)) return this.#giveUp(input);
    this.#any = true;
    this.#parameters = 0;
    this.#valid = true;
    this.#sink.begin(name);
    this.#begun = true;
    return this.#go('parameters');
  }

  #betweenParameters(input: TextInput): ReadResult | 'again' {
    input.skipSpace();
    const mark = input.startsWith([PARAMETER, INVOKE_END, END]);
    if (mark === undefined) return 'more';
    if (mark === PARAMETER) {
      input.take(PARAMETER.length);
      return this.#go('parameter');
    }
    if (mark === INVOKE_END) input.take(INVOKE_END.length);
    return this.#endCall(mark === INVOKE_END);
  }

  #endCall(closed: boolean): ReadResult | 'again' {
    if (closed) this.#sink.arguments(this.#parameters === 0 ? '{}' : '}');
    this.#sink.finish(closed && this.#valid);
    return this.#sink.enough ? 'done' : this.#go('between');
  }

  #beginParameter(): 'again' {
    const name = attribute(this.#tag, 'name') ?? '';
    this.#isString = attribute(this.#tag, 'string') !== 'false';
    this.#scanner = new JsonScanner();
    const comma = this.#parameters++ === 0 ? '{' : ', ';
    this.#sink.arguments(`${comma}${JSON.stringify(name)}: ${this.#isString ? '"' : ''}`);
    return this.#go('value');
  }

  #readValue(input: TextInput): ReadResult | 'again' {
    const { text, marker } = input.takeUntil([PARAMETER_END, END], true);
    if (this.#isString) this.#sink.arguments(JSON.stringify(text).slice(1, -1));
    else {
      for (const char of text) this.#valid &&= this.#scanner.push(char) || (this.#scanner.done && char.trim() === '');
      this.#sink.arguments(text);
    }
    if (marker === undefined && !input.ended) return 'more';
    if (marker !== PARAMETER_END) return this.#endCall(false);
    input.take(PARAMETER_END.length);
    if (this.#isString) this.#sink.arguments('"');
    else this.#valid &&= this.#scanner.complete;
    return this.#go('parameters');
  }

  #readForeign(input: TextInput): ReadResult | 'again' {
    const { text, marker } = input.takeUntil([INVOKE_END, END], true);
    const closed = marker === INVOKE_END ? input.take(INVOKE_END.length) : '';
    this.#sink.content(text + closed);
    if (marker === undefined && !input.ended) return 'more';
    return this.#go('between');
  }
}

/** Value of an attribute; DSML has no escapes in it. */
function attribute(tag: string, name: string): string | undefined {
  const start = tag.indexOf(` ${name}="`);
  if (start === -1) return undefined;
  const from = start + name.length + 3;
  const end = tag.indexOf('"', from);
  return end === -1 ? undefined : tag.slice(from, end);
}
