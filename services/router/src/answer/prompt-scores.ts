import type { NamedLogprob, PromptLogprob } from '@causeway/openai';
import type { workerV1 } from '@causeway/proto';
import type { RouterTokenizer } from '../tokenizer/tokenizer.ts';
import { nextTurn } from '../turn.ts';
import { tokenName } from './piece-logprobs.ts';

/** How likely a prompt's own tokens were, over all attempts: each taken once, in order. */
export class PromptScores {
  /** So many of the likeliest are wanted with each. */
  readonly tops: number;
  readonly #expected: number;
  readonly #tokens: workerV1.PromptScore[] = [];
  #told = false;

  /** Of a prompt of `length` tokens; the first has none. */
  constructor(length: number, tops: number) {
    this.tops = tops;
    this.#expected = length - 1;
  }

  get complete(): boolean {
    return this.#tokens.length >= this.#expected;
  }

  /** They were given to the client. */
  get told(): boolean {
    return this.#told;
  }

  /** Takes the scores from token `position` on in; what is known stays, what comes after a gap is dropped. */
  offer(position: number, tokens: readonly workerV1.PromptScore[]): void {
    const known = this.#tokens.length - (position - 1);
    if (known < 0) return;
    this.#tokens.push(...tokens.slice(known, known + this.#expected - this.#tokens.length));
  }

  /** All of them, once they are complete; undefined before and after that. */
  take(): readonly workerV1.PromptScore[] | undefined {
    if (!this.complete || this.#told) return undefined;
    this.#told = true;
    return this.#tokens;
  }
}

/** The prompt's tokens by name, with where they begin in its text. Long prompts leave others their turn. */
export async function promptLogprobs(
  ids: readonly number[],
  scores: readonly workerV1.PromptScore[],
  tokenizer: Pick<RouterTokenizer, 'tokenBytes' | 'decodeStream'>,
): Promise<PromptLogprob[]> {
  const name = (id: number, logprob: number): NamedLogprob => ({ ...tokenName(id, tokenizer.tokenBytes(id)), logprob });
  const text = tokenizer.decodeStream();
  const entries: PromptLogprob[] = [];
  let offset = 0;
  for (const [i, id] of ids.entries()) {
    await nextTurn();
    const score = i === 0 ? undefined : scores[i - 1];
    const top = score?.topLogprobs.map((likely) => name(likely.id, likely.logprob)) ?? [];
    entries.push({ token: tokenName(id, tokenizer.tokenBytes(id)).token, offset, logprob: score?.logprob, top });
    for (const _ of text.push(id)) offset++;
  }
  return entries;
}
