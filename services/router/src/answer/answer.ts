import type { Constraint } from '@causeway/grammar';
import type { AnswerPart, FinishReasonName, PlacementWish } from '@causeway/openai';
import type { workerV1 } from '@causeway/proto';
import type { WorkerToken } from '../attempt/events.ts';
import type { DecodeStream } from '../tokenizer/tokenizer.ts';
import type { OutputParser } from './output-parser.ts';
import { StopMatcher } from './stop-matcher.ts';

/** Sampling of one answer; the seed is always set, so that every attempt draws the same numbers. */
export type AnswerSampling = Readonly<workerV1.Sampling>;

export interface AnswerOptions {
  readonly model: string;
  readonly promptIds: readonly number[];
  /** Tokens that the answer may have. */
  readonly maxTokens: number;
  readonly sampling: AnswerSampling;
  /** Log-probabilities are wanted, and those of so many of the likeliest tokens. */
  readonly logprobs: number | undefined;
  readonly stop: readonly string[];
  /** Tokens that end the answer beside the model's own; the workers look for them. */
  readonly stopTokenIds: readonly number[];
  readonly ignoreEos: boolean;
  /** So many tokens at least: the workers see to it that none of them ends it, and stop strings within them are passed over. */
  readonly minTokens: number;
  /** What the answer is held to; the workers see to it. */
  readonly constraint: Constraint | undefined;
  readonly placement: PlacementWish | undefined;
  readonly detokenizer: DecodeStream;
  /** Tells reasoning and calls apart from content, where they are looked for. */
  readonly output?: OutputParser | undefined;
}

/** A token as a worker gave it. */
type OfferedToken = Omit<WorkerToken, 'wire' | 'choice'>;

/** What one token adds to the answer. */
export interface AnswerPiece {
  /** In the answer, from 0. */
  readonly position: number;
  readonly id: number;
  /** performance.now() at which the token reached the router, however long the client takes to take it. */
  readonly arrivedAt: number;
  /** New text, often empty: characters and possible stop strings are completed first. */
  readonly text: string;
  /** The same told apart, where calls or reasoning are looked for: possible marks of theirs are held back too. */
  readonly parts: readonly AnswerPart[] | undefined;
  /** Where the token's own text begins in the answer, in characters. */
  readonly offset: number;
  readonly logprob: number;
  readonly topLogprobs: OfferedToken['topLogprobs'];
  /** Set when this piece ends the answer. */
  readonly end: FinishReasonName | undefined;
}

/**
 * One answer over all its attempts: the tokens given so far, in order, each once (A1), their text, and what is still to come.
 */
export class Answer {
  readonly options: AnswerOptions;
  readonly #emitted: number[] = [];
  /** Tokens that came before the one that is due: the two workers' streams are not ordered among each other. */
  readonly #early = new Map<number, OfferedToken>();
  readonly #stops: StopMatcher;
  /** Characters of all tokens so far. */
  #characters = 0;
  #ended: boolean;

  constructor(options: AnswerOptions) {
    this.options = options;
    this.#stops = new StopMatcher(options.stop);
    // Of an echo alone.
    this.#ended = options.maxTokens === 0;
  }

  /** Tokens given so far. */
  get emitted(): readonly number[] {
    return this.#emitted;
  }

  /** No token will follow. */
  get ended(): boolean {
    return this.#ended;
  }

  get remainingTokens(): number {
    return this.options.maxTokens - this.#emitted.length;
  }

  /** Forgets tokens of a lost attempt that were never given. */
  beginAttempt(): void {
    this.#early.clear();
  }

  /** Takes a token of attempt `current`; other attempts' and repeated ones are dropped (A1). */
  offer(token: OfferedToken, current: number): void {
    if (this.#ended || token.attempt !== current) return;
    if (token.position < this.#emitted.length || this.#early.has(token.position)) return;
    this.#early.set(token.position, token);
  }

  /** Tokens are here, but not the one that is due. */
  get hasGap(): boolean {
    return this.#early.size > 0 && !this.#early.has(this.#emitted.length);
  }

  /** The next piece in order, if its token is here. */
  take(): AnswerPiece | undefined {
    const position = this.#emitted.length;
    const token = this.#early.get(position);
    if (token === undefined || this.#ended) return undefined;
    this.#early.delete(position);
    this.#emitted.push(token.id);
    const limit = this.#emitted.length >= this.options.maxTokens ? 'length' : undefined;
    return this.#piece(token, token.finishReason ?? limit);
  }

  /** A token that ends the answer by itself (end of sequence) has no text. */
  #piece(token: OfferedToken, reason: FinishReasonName | undefined): AnswerPiece {
    const { position, id, arrivedAt, logprob, topLogprobs } = token;
    const { detokenizer } = this.options;
    const offset = this.#characters;
    const added = reason === 'stop' ? '' : detokenizer.push(id);
    for (const _ of added) this.#characters++;
    const stoppable = this.#emitted.length > this.options.minTokens;
    const match = this.#stops.push(reason === undefined ? added : added + detokenizer.flush(), stoppable);
    const textEnd = match.stopped ? 'stop' : reason;
    const held = textEnd !== undefined && !match.stopped ? this.#stops.flush() : '';
    const text = match.text + held;
    const parts = this.options.output?.push(text);
    const end = textEnd ?? (this.options.output?.complete === true ? 'stop' : undefined);
    this.#ended = end !== undefined;
    if (end !== undefined) parts?.push(...(this.options.output?.end() ?? []));
    const called = end === 'stop' && this.options.output?.called === true;
    return { position, id, arrivedAt, text, parts, offset, logprob, topLogprobs, end: called ? 'tool_calls' : end };
  }
}
