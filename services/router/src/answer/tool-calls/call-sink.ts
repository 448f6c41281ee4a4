import type { TextInput } from '../text-input.ts';

/** What readers of calls write to. */
export interface CallSink {
  /** Names of the tools that the request gave. */
  readonly tools: ReadonlySet<string>;
  /** Whether an argument is JSON by its tool's schema, rather than a string: for formats in which the two look alike. */
  isJson(tool: string, parameter: string): boolean;
  /** No further call is wanted: a reader is done. */
  readonly enough: boolean;
  /** Begins a call; `id` when the model gave one. */
  begin(name: string, id?: string): void;
  /** More of the arguments' JSON text. */
  arguments(text: string): void;
  /** Ends the call. */
  finish(valid: boolean): void;
  content(text: string): void;
}

/**
 * What a reader did with the text after its marker: `more` text decides; the end of the calls was read (`done`); or it is no call
 * (`failed`), and all that was read since the marker is content. It never fails once it has begun a call.
 */
export type ReadResult = 'more' | 'done' | 'failed';

/** Reads calls from where their marker was found. */
export interface CallReader {
  /** Reads what has come. When the input has ended, the result is not `more`. */
  read(input: TextInput): ReadResult;
}

/** How a family of models writes calls. */
export interface CallFormat {
  /** What begins calls, anywhere in the text. */
  readonly begins: readonly string[];
  /** What begins a call when it is the first of the answer; it is part of the call. */
  readonly bareBegins?: readonly string[];
  /** All that the format has of marks: tokens that are part of one are text, even where the tokenizer calls them special. */
  readonly marks: readonly string[];
  /** Its marks are tokens of their own, so that calls begin even in reasoning that was never closed. */
  readonly endsReasoning: boolean;
  /** `begin`: what began the calls. */
  createReader(sink: CallSink, begin: string): CallReader;
}

/** Longest text before the arguments, with the tool's name in it: what a reader holds back before it knows that it reads a call. */
export const MAX_HEADER = 1024;
