/** Log-probabilities of answers, in OpenAI's two forms. */
import type { AnswerForm } from './responses.ts';

/** A token by name. */
export interface NamedLogprob {
  /** Its text; `bytes:\\xe2\\x82` when it is only part of a character. */
  token: string;
  bytes: readonly number[];
  logprob: number;
}

/** A token of an answer. */
export interface TokenLogprob extends NamedLogprob {
  /** Where its text begins in the answer, in characters. */
  offset: number;
  /** The likeliest at this place, the likeliest first. */
  top: readonly NamedLogprob[];
}

/** A token of a prompt that is given back. */
export interface PromptLogprob {
  token: string;
  /** Where its text begins in the prompt, in characters. */
  offset: number;
  /** Undefined for the first: nothing comes before it. */
  logprob: number | undefined;
  top: readonly NamedLogprob[];
}

/** JSON has no infinity; OpenAI's word for "without a chance". */
const LEAST = -9999;

/** `choices[].logprobs` of a chunk with one token. */
export function chunkLogprobs(form: AnswerForm, entry: TokenLogprob): object {
  if (form === 'chat') return { content: [chatEntry(entry)], refusal: null };
  return {
    tokens: [entry.token],
    token_logprobs: [finite(entry.logprob)],
    top_logprobs: [topByToken(entry)],
    text_offset: [entry.offset],
  };
}

/** `choices[].logprobs` of a chunk with some tokens of the prompt: completions only. */
export function promptChunkLogprobs(entries: readonly PromptLogprob[]): object {
  return {
    tokens: entries.map(({ token }) => token),
    token_logprobs: entries.map(({ logprob }) => promptValue(logprob)),
    top_logprobs: entries.map(promptTop),
    text_offset: entries.map(({ offset }) => offset),
  };
}

/** `choices[].logprobs` of a whole answer. Written token by token: written at the end, a long answer would block the event loop. */
export class AnswerLogprobs {
  readonly #form: AnswerForm;
  readonly #entries: string[] = [];
  readonly #tokens: string[] = [];
  readonly #values: (number | null)[] = [];
  readonly #offsets: number[] = [];

  constructor(form: AnswerForm) {
    this.#form = form;
  }

  add(entry: TokenLogprob): void {
    if (this.#form === 'chat') {
      this.#entries.push(JSON.stringify(chatEntry(entry)));
      return;
    }
    this.#entries.push(JSON.stringify(topByToken(entry)));
    this.#tokens.push(JSON.stringify(entry.token));
    this.#values.push(finite(entry.logprob));
    this.#offsets.push(entry.offset);
  }

  /** A token of the prompt, before all of the answer: completions only. */
  addPrompt(entry: PromptLogprob): void {
    this.#entries.push(JSON.stringify(promptTop(entry)));
    this.#tokens.push(JSON.stringify(entry.token));
    this.#values.push(promptValue(entry.logprob));
    this.#offsets.push(entry.offset);
  }

  toJson(): string {
    const entries = this.#entries.join(',');
    if (this.#form === 'chat') return `{"content":[${entries}],"refusal":null}`;
    const [tokens, values, offsets] = [this.#tokens, this.#values.map(String), this.#offsets].map((list) => list.join(','));
    return `{"tokens":[${tokens}],"token_logprobs":[${values}],"top_logprobs":[${entries}],"text_offset":[${offsets}]}`;
  }
}

function chatEntry(entry: TokenLogprob): object {
  return { ...named(entry), top_logprobs: entry.top.map(named) };
}

function named({ token, logprob, bytes }: NamedLogprob): NamedLogprob {
  return { token, logprob: finite(logprob), bytes };
}

/** The likeliest by their text, and the token itself, which need not be among them. */
function topByToken(entry: TokenLogprob): Record<string, number> {
  return Object.fromEntries([...entry.top, entry].map(({ token, logprob }) => [token, finite(logprob)]));
}

function promptValue(logprob: number | undefined): number | null {
  return logprob === undefined ? null : finite(logprob);
}

function promptTop({ token, logprob, top }: PromptLogprob): Record<string, number> | null {
  if (logprob === undefined) return null;
  return Object.fromEntries([...top, { token, logprob }].map((one) => [one.token, finite(one.logprob)]));
}

function finite(logprob: number): number {
  return logprob > LEAST ? logprob : LEAST;
}
