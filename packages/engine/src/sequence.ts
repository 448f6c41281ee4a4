import type { ConstrainedText } from '@causeway/grammar';
import type { PageSet } from '@causeway/kv';
import type { ExpertLayer } from './remote-experts.ts';
import { answerStart } from './sample-token.ts';
import type { TokenStream } from './token-stream.ts';
import type { FinishReason, GeneratedToken, Generation, KnownTokens, SampledToken } from './types.ts';

/**
 * Why an answer ends with `token`: 'stop' at an end token (unless ignored) or a stop token, 'length' when `generated` tokens were
 * all that was wanted or the sequence of `length` tokens fills the context; undefined when it goes on.
 */
export function finishReason(
  generation: Pick<Generation, 'ignoreEos' | 'stopTokenIds' | 'maxTokens'>,
  limits: { eosTokenIds: readonly number[]; maxContext: number },
  token: number,
  generated: number,
  length: number,
): FinishReason | undefined {
  if (!generation.ignoreEos && limits.eosTokenIds.includes(token)) return 'stop';
  if (generation.stopTokenIds.includes(token)) return 'stop';
  return generated >= generation.maxTokens || length >= limits.maxContext ? 'length' : undefined;
}

/**
 * A sequence that is decoded here. A step feeds token `ids[cached]`; when that was the last known token, its logits give the next
 * one. Tokens given by the prefill worker, replayed or generated before a preemption are known tokens, nothing more.
 */
export class Sequence {
  /** Order of arrival: the youngest is preempted first. */
  readonly arrival: number;
  readonly generation: Generation;
  /** Aborted when the sequence leaves, from whatever cause: ends what runs only for it. */
  readonly signal: AbortSignal;
  readonly stream: TokenStream;
  /** The answer, when it is held to a format. */
  text: ConstrainedText | undefined;
  /** Known tokens: prompt, replayed, generated. */
  readonly ids: number[];
  /** The same, for the sampler. */
  readonly known: KnownTokens;
  /** Tokens whose KV is there: [0, cached). */
  cached: number;
  /** undefined while preempted and after the end. */
  pages: PageSet | undefined;
  /**
   * The next step computes a position whose KV the pages hold already (its logits are wanted): the block is restored from the page
   * afterwards, because a one-token step rounds differently from the prefill that made it.
   */
  recompute: boolean;
  /** Tokens generated so far, the prefill worker's first one included. */
  generated: number;
  /** Times that it gave its memory up. */
  preemptions = 0;
  /** Calls of experts elsewhere, by shard. */
  readonly expertCalls = new Map<string, number>();
  /** Layers of experts elsewhere in its last step. */
  expertLayers: readonly ExpertLayer[] = [];
  /** The mask of its next token was not there in this step. */
  late = false;
  /** Ended, failed or cancelled: nothing more is computed or emitted. */
  left = false;
  readonly #leaving: AbortController;

  constructor(o: {
    arrival: number;
    generation: Generation;
    leaving: AbortController;
    stream: TokenStream;
    pages: PageSet;
    first: SampledToken | undefined;
  }) {
    const { promptIds, replayIds } = o.generation;
    this.arrival = o.arrival;
    this.generation = o.generation;
    this.#leaving = o.leaving;
    this.signal = o.leaving.signal;
    this.stream = o.stream;
    this.pages = o.pages;
    this.ids = [...promptIds, ...replayIds];
    this.known = { ids: this.ids, answer: answerStart(o.generation) };
    this.generated = 0;
    if (o.first !== undefined) {
      this.ids.push(o.first.id);
      this.generated = 1;
    }
    this.cached = Math.min(promptIds.length, this.ids.length - 1);
    this.recompute = this.cached < promptIds.length;
  }

  /** Tokens to have in pages before decoding goes on after a preemption: the others are replayed. */
  get resumeLength(): number {
    const { promptIds, exactResume } = this.generation;
    return exactResume === true ? promptIds.length : Math.max(promptIds.length, this.ids.length - 1);
  }

  /** KV of the tokens [0, length) is in `pages` again. */
  resumeFrom(pages: PageSet, length: number): void {
    this.pages = pages;
    this.cached = Math.min(length, this.ids.length - 1);
    this.recompute = this.cached < length;
  }

  /** Takes a sampled token in and gives what the reader gets. */
  accept(token: SampledToken, limits: { eosTokenIds: readonly number[]; maxContext: number }): GeneratedToken {
    this.ids.push(token.id);
    const position = this.generation.firstPosition + this.generated++;
    const reason = finishReason(this.generation, limits, token.id, this.generated, this.ids.length);
    const given = { ...token, position, ...(this.expertLayers.length === 0 ? {} : { expertLayers: this.expertLayers }) };
    return reason === undefined
      ? given
      : { ...given, finishReason: reason, preemptions: this.preemptions, expertCalls: this.expertCalls };
  }

  /** Answer position of the next token to be sampled. */
  get nextPosition(): number {
    return this.generation.firstPosition + this.generated;
  }

  /** Leaves for good: pages go back to the pool as soon as no job runs on them. */
  release(): void {
    this.left = true;
    this.text?.[Symbol.dispose]();
    this.#leaving.abort();
    this.pages?.[Symbol.dispose]();
    this.pages = undefined;
  }
}
