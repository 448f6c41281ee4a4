import { randomBytes } from 'node:crypto';
import type { AnswerPart, CallableTool } from '@causeway/openai';
import { TextInput } from '../text-input.ts';
import type { CallFormat, CallReader, CallSink } from './call-sink.ts';

/** What a request says about calls. */
export interface CallOptions {
  readonly format: CallFormat;
  /** The tools that may be called. */
  readonly tools: readonly CallableTool[];
  /** More than one call is wanted. */
  readonly parallel: boolean;
  /** Id of a call whose format has none. */
  readonly newId?: () => string;
}

/** `call_` and 24 hexadecimal digits, in the form of OpenAI's. */
function randomId(): string {
  return `call_${randomBytes(12).toString('hex')}`;
}

/**
 * Tells calls of tools from content in a text that comes in pieces. Content is passed on at once, but for what may begin a call; a
 * call's arguments as they come. Text that looks like a call and is none, or names no tool of the request, is content. Only white
 * space before, between and after calls is dropped.
 */
export class CallParser {
  readonly #options: CallOptions;
  readonly #emit: (part: AnswerPart) => void;
  readonly #sink: CallSink;
  readonly #newId: () => string;
  readonly #input = new TextInput();
  readonly #ids = new Set<string>();
  #reader: CallReader | undefined;
  /** Content was given, or a call, so that none begins without a mark. */
  #atStart = true;
  /** White space that may be next to a call. */
  #space = '';
  /** The last thing given was content. */
  #inContent = false;
  #calls = 0;
  #open = false;
  /** The text ended in the middle of the last call. */
  #cut = false;

  constructor(options: CallOptions, emit: (part: AnswerPart) => void) {
    this.#options = options;
    this.#emit = emit;
    this.#newId = options.newId ?? randomId;
    const isComplete = (): boolean => this.complete;
    const json = new Map(options.tools.map(({ name, jsonParameters }) => [name, new Set(jsonParameters)]));
    this.#sink = {
      tools: new Set(json.keys()),
      isJson: (tool, parameter) => json.get(tool)?.has(parameter) ?? false,
      get enough() {
        return isComplete();
      },
      begin: (name, id) => this.#begin(name, id),
      arguments: (text) => {
        if (text !== '') emit({ kind: 'arguments', index: this.#calls - 1, text });
      },
      finish: (valid) => {
        this.#open = false;
        this.#cut = this.#input.ended && !valid;
        emit({ kind: 'call_end', index: this.#calls - 1, valid, source: this.#input.recorded() });
      },
      content: (text) => this.#content(text),
    };
  }

  /** There were calls, and the last one is complete. */
  get called(): boolean {
    return this.#calls > 0 && !this.#open && !this.#cut;
  }

  /** All calls that are wanted were read. */
  get complete(): boolean {
    return this.called && !this.#options.parallel;
  }

  push(text: string): void {
    this.#input.push(text);
    this.#read();
  }

  /** The text is at its end. */
  end(): void {
    this.#input.end();
    this.#read();
    if (this.#calls === 0 && this.#space !== '') this.#emit({ kind: 'content', text: this.#space });
    this.#space = '';
  }

  #read(): void {
    while (!this.complete) {
      this.#reader ??= this.#nextReader();
      if (this.#reader === undefined) return;
      const result = this.#reader.read(this.#input);
      if (result === 'more') return;
      this.#reader = undefined;
      const source = this.#input.recorded();
      this.#input.forget();
      if (result === 'failed') this.#content(source);
    }
    // What comes behind the only call that is wanted is not.
    this.#input.take(this.#input.rest.length);
  }

  /** Passes content on until calls begin. */
  #nextReader(): CallReader | undefined {
    const { format } = this.#options;
    const { begins, bareBegins } = format;
    if (this.#atStart && bareBegins !== undefined) {
      this.#space += this.#input.skipSpace();
      const bare = this.#input.startsWith(bareBegins);
      if (bare === undefined) return undefined;
      this.#atStart = false;
      if (bare !== false) {
        this.#input.record('');
        return format.createReader(this.#sink, '');
      }
    }
    const { text, marker } = this.#input.takeUntil(begins);
    this.#content(text);
    if (marker === undefined) return undefined;
    this.#input.record(marker);
    return format.createReader(this.#sink, marker);
  }

  #begin(name: string, id: string | undefined): void {
    this.#space = '';
    this.#inContent = false;
    this.#atStart = false;
    this.#open = true;
    const own = id === undefined || id === '' || this.#ids.has(id) ? this.#newId() : id;
    this.#ids.add(own);
    this.#emit({ kind: 'call', index: this.#calls++, id: own, name });
  }

  #content(text: string): void {
    if (this.#inContent || text.trim() !== '') {
      if (text === '') return;
      this.#emit({ kind: 'content', text: this.#space + text });
      this.#space = '';
      this.#inContent = true;
      this.#atStart = false;
    } else {
      this.#space += text;
    }
  }
}
