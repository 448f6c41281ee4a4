/** What services see of the engine. */
import type { Constraint } from '@causeway/grammar';
import type { Fingerprint, KvDescriptor, LayerRange, PageSet } from '@causeway/kv';

import type { ExpertCalls, ExpertLayer } from './remote-experts.ts';

/** How tokens are chosen; a pure function of these, the position and the tokens so far. */
export interface Sampling {
  /** 0 means greedy. */
  temperature: number;
  topP: number;
  /** 0 means no limit. */
  topK: number;
  seed: bigint;
  /** Tokens less likely than this share of the likeliest one's probability are out; default 0: none. */
  minP?: number;
  /** Tokens of the prompt and the answer: a positive logit is divided by this, another one multiplied; default 1: none. */
  repetitionPenalty?: number;
  /** Taken off the logit of every token that the answer has already; default 0. */
  presencePenalty?: number;
  /** The same, for each time that the answer has it; default 0. */
  frequencyPenalty?: number;
  /** Added to logits, before penalties; each id once. */
  logitBias?: readonly LogitBias[];
}

export interface LogitBias {
  id: number;
  bias: number;
}

/** Tokens before the one to be chosen. */
export interface KnownTokens {
  /** Prompt and answer so far. */
  ids: ArrayLike<number>;
  /** Index of the answer's first token; `ids.length` when there is none yet. */
  answer: number;
}

/** What to generate after a prompt. Lengths in tokens. */
export interface Generation {
  /** Tokens to prefill, at least one. */
  promptIds: Uint32Array;
  /** Tokens already given to the client, replayed as decode steps and not emitted again. */
  replayIds: Uint32Array;
  /** New tokens still wanted, the first included. */
  maxTokens: number;
  stopTokenIds: readonly number[];
  ignoreEos: boolean;
  sampling: Sampling;
  /** Position of the first new token in the answer: so many known tokens, the last ones, are the answer so far. */
  firstPosition: number;
  /** Every token carries the logits it was chosen from (verification); default false. */
  returnLogits?: boolean;
  /** Positions of the answer below this have no end token and no stop token; default 0. */
  minTokens?: number;
  /**
   * After a preemption the prompt is prefilled and the answer so far replayed as decode steps: every further token has the bits it
   * would have had. Default false: prompt and answer are read as one prompt, which is faster and equal up to near-ties.
   */
  exactResume?: boolean;
  /** Every token carries so many of the likeliest tokens at its position; default 0. */
  topLogprobs?: number;
  /** What the answer is held to; it ends at an end token, which can only come where it is complete. */
  constraint?: Constraint;
  /** Reading the prompt gives how likely its own tokens are, each with so many of the likeliest ones; default: it does not. */
  promptLogprobs?: number | undefined;
}

export interface TopLogprob {
  id: number;
  /** Natural log of the model's probability (before temperature, bias and penalties). */
  logprob: number;
}

export interface SampledToken {
  id: number;
  /** Natural log of the model's probability (before temperature, bias and penalties). */
  logprob: number;
  /** Only when asked for: the likeliest first. */
  topLogprobs?: readonly TopLogprob[];
  /** Only when asked for: a copy of the row, f32 [vocabSize]. */
  logits?: Float32Array;
}

/** A token that was given, as likely as the model found it after those before it. */
export interface ScoredToken {
  id: number;
  /** Natural log of the model's probability. */
  logprob: number;
  /** The likeliest first. */
  topLogprobs: readonly TopLogprob[];
}

export type FinishReason = 'stop' | 'length';

export interface GeneratedToken extends SampledToken {
  position: number;
  finishReason?: FinishReason;
  /** With `finishReason`: how often the sequence gave its memory up and came back. */
  preemptions?: number;
  /** With `finishReason`: the sequence's calls of experts elsewhere, by shard, its prompt's only if it was read again. */
  expertCalls?: ExpertCalls;
  /** Layers of experts elsewhere in the step that made it; left out when there are none. */
  expertLayers?: readonly ExpertLayer[];
}

/** Pages that hold one sequence, reserved all or nothing. */
export type SequencePages = PageSet;

export interface PrefillListeners {
  /** Called for each group of layers of each chunk: pages hold the tokens [0, end) of these layers. The next wait for what it returns. */
  onTokens?: ((end: number, layers: LayerRange) => void | Promise<void>) | undefined;
  /** With `promptLogprobs`: tokens of the prompt from `position` on. Every one but the first comes once, in order, before the result. */
  onScores?: ((position: number, tokens: readonly ScoredToken[]) => void) | undefined;
  /** After each chunk: its layers of experts elsewhere, if any. */
  onExperts?: ((layers: readonly ExpertLayer[]) => void) | undefined;
}

export interface PrefillResult {
  /** undefined when the generation replays tokens. */
  first: GeneratedToken | undefined;
  prefillMs: number;
  /** Calls of experts elsewhere, by shard. */
  expertCalls: ExpertCalls;
}

/** The same for several answers to one prompt, in their order. */
export interface ChoicesPrefillResult {
  firsts: readonly (GeneratedToken | undefined)[];
  prefillMs: number;
  /** Calls of experts elsewhere, by shard. */
  expertCalls: ExpertCalls;
}

export interface EngineStats {
  running: number;
  waiting: number;
  /** Prompt tokens queued or running. */
  queuedPromptTokens: number;
  totalPages: number;
  freePages: number;
  /** Prompt tokens prefilled here since start. */
  prefillTokens: number;
  decodedTokens: number;
  /** Runs of the decode graph since start (one run serves every running sequence). */
  decodeRuns: number;
  preemptions: number;
  /** Bytes that slots may take at most: address space, committed lazily and given back when a sequence leaves. */
  slotBytes: number;
  /** Bytes of the page pool. */
  pageBytes: number;
  /** Longest uninterrupted stretch of the engine's own work on the event loop since start, in milliseconds of CPU time, and its last part. */
  longestSectionMs: number;
  longestSection: string;
}

/** What an engine has to know of its model. */
export interface EngineModelInfo {
  name: string;
  architecture: string;
  vocabSize: number;
  contextLength: number;
  eosTokenIds: readonly number[];
  descriptor: KvDescriptor;
}

export interface ModelInfo extends EngineModelInfo {
  fingerprint: Fingerprint;
}

export interface Engine extends AsyncDisposable {
  readonly info: EngineModelInfo;
  stats(): EngineStats;

  /**
   * Reserves pages for `tokens` tokens of KV, waiting in line until there is room.
   * @throws ServiceError `resource_exhausted/no_capacity` when it can never fit or the line is full.
   */
  reserve(tokens: number, signal: AbortSignal): Promise<SequencePages>;

  /**
   * Reads a prompt in chunks into its own slot and packs finished blocks into `pages` (prefill worker, or local prefill).
   * `onTokens(end, layers)` is called for each group of layers of each chunk, as soon as they are computed: pages hold the tokens
   * [0, end) of these layers. The next layers wait for what it returns. Never called again after the promise settles.
   */
  prefill(
    generation: Generation,
    pages: SequencePages,
    signal: AbortSignal,
    onTokens?: (end: number, layers: LayerRange) => void | Promise<void>,
  ): Promise<PrefillResult>;

  /**
   * `prefill` for several answers to one prompt, which is read once: `generations` differ in seed, replayed tokens, limit and position
   * only. One that replays tokens has no first token here. Listeners are never called after the promise settles.
   */
  prefillChoices(
    generations: readonly Generation[],
    pages: SequencePages,
    signal: AbortSignal,
    listeners?: PrefillListeners,
  ): Promise<ChoicesPrefillResult>;

  /**
   * Divides committed pages with `room` for all of `generations` into a set for each, to be given to `decode`. Whole blocks of the prompt
   * are shared by all of them, the last one is copied. `pages` can be released at once: the prompt's return with the last of the sets.
   */
  fork(pages: SequencePages, generations: readonly Generation[]): Promise<SequencePages[]>;

  /**
   * Generates from committed pages: fills a slot, joins the running batch, yields tokens after `first`
   * (which the caller has already handled). Without `first` the last prompt position is recomputed from the pages.
   * The sequence takes `pages` over and releases them when the iteration ends, from whatever cause.
   */
  decode(
    generation: Generation,
    pages: SequencePages,
    first: GeneratedToken | undefined,
    signal: AbortSignal,
  ): AsyncIterable<GeneratedToken>;

  /** Bytes of page `index`, a view of native memory. */
  page(index: number): Uint8Array;

  /**
   * Tokens to reserve for a generation that is decoded here: prompt, replayed tokens and min(maxTokens, growth), where
   * growth follows the answer lengths seen here; never more than the context. The sequence grows beyond it while memory lasts.
   * For several answers to one prompt: the prompt once, the rest for each.
   */
  room(generation: Generation, ...others: readonly Generation[]): number;

  /**
   * Logits of every position of `ids` (teacher-forced prefill through pages, as `prefill` runs it). `onLogits` gets one chunk at a
   * time: `start` is its first position, `logits` is f32 [positions, vocabSize], valid only during the call.
   */
  logits(ids: Uint32Array, onLogits: (start: number, logits: Float32Array) => void, options?: LogitsOptions): Promise<void>;
}

export interface LogitsOptions {
  /** Tokens per chunk, at most the engine's; default the engine's. */
  chunk?: number;
  signal?: AbortSignal;
}
