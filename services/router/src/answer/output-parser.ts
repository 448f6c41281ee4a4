import type { AnswerPart } from '@causeway/openai';
import { ReasoningSplitter, type ReasoningStart } from './reasoning.ts';
import { type CallOptions, CallParser } from './tool-calls/call-parser.ts';

/** What may be told apart in an answer. */
export interface OutputOptions {
  /** Undefined: the model writes no reasoning. */
  readonly reasoning: ReasoningStart | undefined;
  /** False: reasoning is told apart and left out. Default true. */
  readonly withReasoning?: boolean;
  /** Undefined: no calls are wanted. */
  readonly calls: CallOptions | undefined;
}

/**
 * Tells reasoning, calls and content of one answer apart, piece by piece. It belongs to the answer, not to an attempt at it: what
 * other workers write after a loss is read where the first one stopped.
 */
export class OutputParser {
  readonly #calls: CallParser | undefined;
  readonly #splitter: ReasoningSplitter | undefined;
  #parts: AnswerPart[] = [];
  #reasoningTokens = 0;

  constructor({ reasoning, withReasoning = true, calls }: OutputOptions) {
    const emit = (part: AnswerPart): void => this.#add(part);
    this.#calls = calls === undefined ? undefined : new CallParser(calls, emit);
    const endMarks = calls?.format.endsReasoning === true ? calls.format.begins : [];
    this.#splitter =
      reasoning === undefined
        ? undefined
        : new ReasoningSplitter(reasoning, endMarks, {
            reasoning: (text) => {
              if (withReasoning) emit({ kind: 'reasoning', text });
            },
            following: (text) => this.#following(text),
          });
  }

  /** Tokens of reasoning, its marks left out; undefined for models that write none. */
  get reasoningTokens(): number | undefined {
    return this.#splitter === undefined ? undefined : this.#reasoningTokens;
  }

  /** The answer calls tools, and its last call is whole. */
  get called(): boolean {
    return this.#calls?.called ?? false;
  }

  /** Whatever the model would write further is not wanted. */
  get complete(): boolean {
    return this.#calls?.complete ?? false;
  }

  /** Takes the text that one token adds, which may be none; gives the parts that are certain by now. */
  push(text: string): AnswerPart[] {
    const before = this.#splitter?.reasoning ?? false;
    if (this.#splitter === undefined) this.#following(text);
    else this.#splitter.push(text);
    if (before && this.#splitter?.reasoning === true) this.#reasoningTokens++;
    return this.#taken();
  }

  /** What is left at the end of the answer. */
  end(): AnswerPart[] {
    this.#splitter?.end();
    this.#calls?.end();
    return this.#taken();
  }

  #following(text: string): void {
    if (this.#calls !== undefined) this.#calls.push(text);
    else if (text !== '') this.#add({ kind: 'content', text });
  }

  /** Pieces of one text are one part. */
  #add(part: AnswerPart): void {
    const last = this.#parts.at(-1);
    if (last?.kind === 'content' && part.kind === 'content') this.#parts[this.#parts.length - 1] = joined(last, part);
    else if (last?.kind === 'reasoning' && part.kind === 'reasoning') this.#parts[this.#parts.length - 1] = joined(last, part);
    else if (last?.kind === 'arguments' && part.kind === 'arguments') this.#parts[this.#parts.length - 1] = joined(last, part);
    else this.#parts.push(part);
  }

  #taken(): AnswerPart[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }
}

function joined<P extends { readonly text: string }>(first: P, second: P): P {
  return { ...first, text: first.text + second.text };
}
